// The words of the deployed custom labels, by the names the card gives them.
const { readFileSync } = require("fs");
const { join } = require("path");

const FILE = join(__dirname, "../../../labels/CustomLabels.labels-meta.xml");
const parsed = new DOMParser().parseFromString(readFileSync(FILE, "utf8"), "application/xml");

module.exports.words = Object.fromEntries(
  [...parsed.querySelectorAll("labels")].map((each) => {
    const name = each.querySelector("fullName").textContent.replace("HubScore_", "");
    return [name[0].toLowerCase() + name.slice(1), each.querySelector("value").textContent];
  }),
);
