import { createElement } from "lwc";
import { getRecord } from "lightning/uiRecordApi";
import { registerSa11yMatcher } from "@sa11y/jest";
import HubScore from "c/hubScore";
import { words } from "./words";

jest.mock("../labels", () => ({ ...jest.requireActual("../labels"), labels: require("./words").words }));

const NOW = Date.parse("2026-06-15T12:00:00.000Z");
const DAY = 86_400_000;
const LEAD = "00Q000000000001AAA";
const RECEIPT = "https://hub.acme.example/decisions?key=00Q000000000001AAA";
const WHOLE = {
  Score__c: 83,
  Score_Band__c: "Hot",
  Score_Reasons__c: "Days since first contact (+); Company size (−)",
  Scored_At__c: "2026-06-12T11:00:00.000Z",
  Score_Receipt__c: RECEIPT,
};

beforeAll(() => {
  registerSa11yMatcher();
  const warn = console.warn;
  // The accessibility check asks every element for its value, and LWC warns of each that has none.
  jest.spyOn(console, "warn").mockImplementation((...told) => {
    if (!String(told[0]).includes('The property "value" is not publicly accessible')) {
      warn(...told);
    }
  });
});

beforeEach(() => {
  // The clock and the card's tick alone: the accessibility check waits on timers of its own.
  jest.useFakeTimers({
    now: NOW,
    doNotFake: ["nextTick", "queueMicrotask", "setImmediate", "clearImmediate", "setTimeout", "clearTimeout", "performance"],
  });
});

afterEach(() => {
  document.body.replaceChildren();
  expect(jest.getTimerCount()).toBe(0); // a card that left the page ticks no more
  jest.useRealTimers();
});

const rendered = () => Promise.resolve();

function put(properties = {}) {
  const card = createElement("c-hub-score", { is: HubScore });
  Object.assign(card, { recordId: LEAD, objectApiName: "Lead", ...properties });
  document.body.append(card);
  return card;
}

const answer = (fields, id = LEAD) => ({
  id,
  fields: Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, { value, displayValue: null }])),
});

/** The card after the platform answered with these fields; a field left out is one that the user may not see. */
async function shown(fields, properties) {
  const card = put(properties);
  getRecord.emit(answer(fields));
  await rendered();
  return card;
}

async function failed(body, status, statusText) {
  const card = put();
  getRecord.error(body, status, statusText);
  await rendered();
  return card;
}

const parts = (card, name) => [...card.shadowRoot.querySelectorAll(`[data-part="${name}"]`)];
const text = (card, name) => parts(card, name).map((each) => each.textContent.trim())[0] ?? null;
const without = (...names) => Object.fromEntries(Object.entries(WHOLE).filter(([name]) => !names.includes(name)));

describe("what is asked of the platform", () => {
  it.each(["Lead", "Contact"])("is the five fields of a %s, each of which may be hidden", async (objectApiName) => {
    put({ objectApiName });
    await rendered();
    expect(getRecord.getLastConfig()).toEqual({
      recordId: LEAD,
      optionalFields: Object.keys(WHOLE).map((name) => `${objectApiName}.${name}`),
    });
  });

  it("is no field of any other object, and the card says so", async () => {
    const card = put({ objectApiName: "Account" });
    await rendered();
    expect(getRecord.getLastConfig().optionalFields).toBeUndefined();
    expect(text(card, "notice")).toBe(words.wrongObject);
    await expect(card).toBeAccessible();
  });
});

describe("a whole score", () => {
  it("is shown with band, age, reasons and receipt", async () => {
    const card = await shown(WHOLE);
    expect(text(card, "score")).toBe("83");
    expect(text(card, "band")).toBe("Hot");
    expect(text(card, "age")).toBe("3 days ago");
    expect(parts(card, "reason").map((each) => each.textContent)).toEqual(["Days since first contact", "Company size"]);
    expect(parts(card, "direction").map((each) => each.textContent)).toEqual([words.raises, words.lowers]);
    const [link] = parts(card, "receipt");
    expect([link.href, link.target, link.rel]).toEqual([RECEIPT, "_blank", "noopener noreferrer"]);
    expect(link.textContent.replace(/\s+/g, " ").trim()).toBe(`${words.receipt} ${words.newTab}`);
    for (const none of ["notice", "failure", "stale", "bad-receipt", "partly-hidden"]) {
      expect(parts(card, none)).toEqual([]);
    }
  });

  it("is accessible: named by its heading, its reasons a list named by theirs", async () => {
    const card = await shown(WHOLE);
    const root = card.shadowRoot;
    // LWC makes ids unique; what is named must still point at what names it.
    const names = (heading, selector) =>
      expect(root.querySelector(selector).getAttribute("aria-labelledby")).toBe(root.querySelector(heading).id);
    names("h2", "article");
    names("h3", "ul");
    expect(root.querySelector("h2").id).not.toBe("");
    expect(root.querySelector("h3").id).not.toBe("");
    expect(root.querySelectorAll("ul > li")).toHaveLength(2);
    await expect(card).toBeAccessible();
  });

  it("that is not accessible would be found", async () => {
    const card = await shown(WHOLE);
    const image = document.createElement("img");
    image.src = "x.png";
    document.body.append(image);
    await expect(expect(document.body).toBeAccessible()).rejects.toThrow(/image-alt/);
    expect(text(card, "score")).toBe("83");
  });

  it.each([
    [0, "0"],
    [-4, "-4"],
    [1234.567, "1,234.57"],
    ["A+", "A+"],
  ])("of %p is shown as %s", async (value, told) => {
    expect(text(await shown({ ...WHOLE, Score__c: value }), "score")).toBe(told);
  });

  it("is shown by its band alone where the mapping fell back to a band", async () => {
    const card = await shown({ ...WHOLE, Score__c: null, Score_Band__c: "Review" });
    expect(parts(card, "score")).toEqual([]);
    expect(text(card, "band")).toBe("Review");
    expect(parts(card, "notice")).toEqual([]);
  });

  it("has no list of reasons where there are none", async () => {
    const card = await shown({ ...WHOLE, Score_Reasons__c: null });
    expect(parts(card, "reasons")).toEqual([]);
    expect(card.shadowRoot.querySelector("h3")).toBeNull();
    await expect(card).toBeAccessible();
  });

  it("shows a reason of another form without a direction, and never as markup", async () => {
    const card = await shown({ ...WHOLE, Score_Reasons__c: "<img src=x onerror=alert(1)>" });
    expect(text(card, "reason")).toBe("<img src=x onerror=alert(1)>");
    expect(card.shadowRoot.querySelector("img")).toBeNull();
    expect(parts(card, "direction")).toEqual([]);
  });
});

describe("the age", () => {
  const scored = (age, properties) => shown({ ...WHOLE, Scored_At__c: new Date(NOW - age).toISOString() }, properties);

  it.each([
    [30 * DAY, undefined, false],
    [30 * DAY + 1, undefined, true],
    [DAY, 1, false],
    [DAY + 1, 1, true],
    [DAY + 1, "1", true],
    [4000 * DAY, 0, false],
    [4000 * DAY, null, false],
    [-DAY, 1, false],
  ])("of %p ms, stale after %p days: %p", async (age, staleAfterDays, stale) => {
    const card = await scored(age, staleAfterDays === undefined ? {} : { staleAfterDays });
    expect(text(card, "stale")).toBe(stale ? words.stale : null);
    expect(text(card, "stale-why")).toBe(stale ? `This score is older than ${staleAfterDays ?? 30} days.` : null);
    await expect(card).toBeAccessible();
  });

  it("goes on while the page stays open, and becomes stale there", async () => {
    const card = await scored(DAY - 30_000, { staleAfterDays: 1 });
    expect([text(card, "age"), text(card, "stale")]).toEqual(["23 hours ago", null]);
    jest.advanceTimersByTime(60_000);
    await rendered();
    expect([text(card, "age"), text(card, "stale")]).toEqual(["1 day ago", words.stale]);
  });

  it.each([null, "never"])("of a score at %p is said to be unknown, and not stale", async (moment) => {
    const card = await shown({ ...WHOLE, Scored_At__c: moment });
    expect([text(card, "age"), text(card, "stale")]).toEqual([words.noAge, null]);
  });
});

describe("the receipt", () => {
  it.each([null, ""])("is not missed where the record has none: %p", async (value) => {
    const card = await shown({ ...WHOLE, Score_Receipt__c: value });
    expect(parts(card, "receipt")).toEqual([]);
    expect(parts(card, "bad-receipt")).toEqual([]);
  });

  it("is not missed where the field does not exist or is hidden", async () => {
    const card = await shown(without("Score_Receipt__c"));
    for (const none of ["receipt", "bad-receipt", "partly-hidden"]) {
      expect(parts(card, none)).toEqual([]);
    }
  });

  it.each([
    ["javascript:alert(1)", ""],
    ["http://hub.acme.example/", ""],
    ["https://evil.example/", "hub.acme.example"],
  ])("at %s is no link, with %p as its host", async (value, receiptHost) => {
    const card = await shown({ ...WHOLE, Score_Receipt__c: value }, { receiptHost });
    expect(card.shadowRoot.querySelector("a")).toBeNull();
    expect(text(card, "bad-receipt")).toBe(words.badReceipt);
    expect(card.shadowRoot.innerHTML).not.toContain(value);
    await expect(card).toBeAccessible();
  });

  it("is a link where the host is the one that is set", async () => {
    const card = await shown(WHOLE, { receiptHost: "hub.acme.example" });
    expect(parts(card, "receipt")).toHaveLength(1);
  });
});

describe("without a score", () => {
  it("says that it waits until the platform answers", async () => {
    const card = put();
    await rendered();
    expect(text(card, "notice")).toBe(words.loading);
    await expect(card).toBeAccessible();
  });

  it("says so, accessibly and politely", async () => {
    const card = await shown({ ...WHOLE, Score__c: null, Score_Band__c: null });
    expect(text(card, "notice")).toBe(words.noScore);
    expect(parts(card, "notice")[0].getAttribute("role")).toBe("status");
    for (const none of ["score", "band", "age", "reasons", "receipt"]) {
      expect(parts(card, none)).toEqual([]);
    }
    await expect(card).toBeAccessible();
  });

  it("shows it once it comes", async () => {
    const card = await shown({ ...WHOLE, Score__c: null, Score_Band__c: null });
    getRecord.emit(answer(WHOLE));
    await rendered();
    expect([text(card, "score"), text(card, "notice")]).toEqual(["83", null]);
  });

  it("never shows the score of the record before, while the next one is being read", async () => {
    const card = await shown(WHOLE);
    card.recordId = "00Q000000000002AAA";
    await rendered();
    expect([text(card, "score"), text(card, "notice")]).toEqual([null, words.loading]);
  });

  it("takes the short and the long form of an id for the same record", async () => {
    expect(text(await shown(WHOLE, { recordId: LEAD.slice(0, 15) }), "score")).toBe("83");
  });
});

describe("field-level security", () => {
  it("that hides score and band is told in plain words, with what to ask for", async () => {
    const card = await shown(without("Score__c", "Score_Band__c"));
    expect(text(card, "notice")).toBe(words.hidden);
    expect(parts(card, "reasons")).toEqual([]);
    await expect(card).toBeAccessible();
  });

  it("that hides everything is told alike", async () => {
    expect(text(await shown({}), "notice")).toBe(words.hidden);
  });

  it.each([
    ["Score__c", "Score", "score"],
    ["Score_Band__c", "Band", "band"],
    ["Score_Reasons__c", "Reasons", "reasons"],
    ["Scored_At__c", "Scored", "age"],
  ])("that hides %s leaves the rest, and names %s", async (field, label, part) => {
    const card = await shown(without(field));
    expect(text(card, "partly-hidden")).toBe(`You may not see: ${label}.`);
    expect(parts(card, part)).toEqual([]);
    const rest = ["score", "band", "reasons", "age"].filter((each) => each !== part);
    expect(rest.map((each) => parts(card, each).length)).toEqual([1, 1, 1]);
    await expect(card).toBeAccessible();
  });

  it("names all that it hides", async () => {
    const card = await shown(without("Score_Reasons__c", "Scored_At__c"));
    expect(text(card, "partly-hidden")).toBe("You may not see: Reasons, Scored.");
  });
});

describe("an error of the platform", () => {
  it.each([
    [{ message: "The requested resource does not exist", statusCode: 404 }, 404, words.unseen],
    [{ message: "You do not have access" }, 403, words.unseen],
    [{ message: "Try again later" }, 500, words.failed],
  ])("%p with status %p is told plainly", async (body, status, told) => {
    const card = await failed(body, status);
    expect(parts(card, "failure")[0].getAttribute("role")).toBe("alert");
    expect(text(card, "failure").startsWith(told)).toBe(true);
    expect(text(card, "detail")).toBe(body.message);
    expect([text(card, "score"), text(card, "notice")]).toEqual([null, null]);
    await expect(card).toBeAccessible();
  });

  it("may have several messages", async () => {
    const card = await failed([{ message: "One." }, null, { message: "Two." }], 400);
    expect(text(card, "detail")).toBe("One. Two.");
  });

  it("may have none, or no body", async () => {
    const card = await failed([], 500);
    expect([text(card, "failure"), text(card, "detail")]).toEqual([words.failed, null]);
    await expect(card).toBeAccessible();
  });

  it("takes the place of a score that was shown, and goes when the next answer comes", async () => {
    const card = await shown(WHOLE);
    getRecord.error({ message: "Offline" }, 503);
    await rendered();
    expect([text(card, "score"), text(card, "detail")]).toEqual([null, "Offline"]);
    getRecord.emit(answer(WHOLE));
    await rendered();
    expect([text(card, "score"), parts(card, "failure").length]).toEqual(["83", 0]);
  });
});
