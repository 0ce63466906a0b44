// jsforce on the twin: logs in by SOAP, reads, writes, asks in bulk, and prints what it saw as one JSON document.
const jsforce = require("jsforce");

async function story() {
  const given = JSON.parse(process.env.TWIN);
  const made = {};
  const connection = new jsforce.Connection({ loginUrl: given.url, version: "59.0" });
  const user = await connection.login(given.username, given.password + given.security_token);
  made.user = user.id;
  made.identity = (await connection.identity()).user_id;

  const described = await connection.sobject("Lead").describe();
  made.fields = described.fields.length;
  made.objects = (await connection.describeGlobal()).sobjects.length;

  const asked = "SELECT Id, Name, Owner.Name FROM Lead ORDER BY Id";
  const found = (await connection.query(asked, { autoFetch: true, maxFetch: 100000 })).records;
  made.read = found.length;
  made.owner = found[0].Owner.Name;
  made.count = (await connection.query("SELECT COUNT() FROM Lead")).totalSize;
  made.chosen = (await connection.sobject("Lead").find({ LastName: "O'Brien" }, ["Id"])).length;

  const created = await connection.sobject("Lead").create({ LastName: "Script", Company: "Node" });
  made.created = created.success;
  await connection.sobject("Lead").update({ Id: created.id, City: "Oslo" });
  made.city = (await connection.sobject("Lead").retrieve(created.id)).City;
  const several = await connection.sobject("Lead").create([{ LastName: "A", Company: "B" }, { LastName: "A" }], { allOrNone: false });
  made.several = several.map((each) => (each.success ? "done" : each.errors[0].statusCode));
  made.upserted = (await connection.sobject("Lead").upsert({ Key__c: "js-1", LastName: "U", Company: "N" }, "Key__c")).success;
  made.removed = (await connection.sobject("Lead").destroy(created.id)).success;
  made.refused = await connection.query("SELECT Foo FROM Lead").then(() => null, (error) => error.errorCode);

  connection.bulk2.pollInterval = 100;
  connection.bulk2.pollTimeout = 60000;
  const loaded = await connection.bulk2.loadAndWaitForResults({
    object: "Lead",
    operation: "insert",
    input: [{ LastName: "Bulk", Company: "B" }, { LastName: "Bulk", Company: "x".repeat(300) }],
  });
  made.bulk = [loaded.successfulResults.length, loaded.failedResults.length, loaded.unprocessedRecords.length];
  const stream = await connection.bulk2.query("SELECT Id, LastName FROM Lead WHERE LastName = 'Bulk'");
  made.streamed = (await stream.toArray()).map((each) => each.LastName);
  made.limit = (await connection.request("/services/data/v59.0/limits")).DailyApiRequests.Max;
  console.log(JSON.stringify(made));
}

story().catch((error) => {
  console.error(error);
  process.exit(1);
});
