import { DAY, ageOf, inWords, reasonsOf, receiptOf } from "../reading";

const NOW = Date.parse("2026-06-15T12:00:00.000Z");

describe("reasons", () => {
  it("are read as the hub writes them", () => {
    expect(reasonsOf("Days since first contact (+); Company size (−)")).toEqual([
      { title: "Days since first contact", raises: true },
      { title: "Company size", raises: false },
    ]);
  });

  it("keep what their titles hold of the marks between them", () => {
    expect(reasonsOf("Size; in heads (FTE) (+); a (+) b (−)")).toEqual([
      { title: "Size; in heads (FTE)", raises: true },
      { title: "a (+) b", raises: false },
    ]);
  });

  it("may span lines and scripts", () => {
    expect(reasonsOf("Erster\nKontakt (−); 規模 🏢 (+)")).toEqual([
      { title: "Erster\nKontakt", raises: false },
      { title: "規模 🏢", raises: true },
    ]);
  });

  it.each(["Called twice", "Size (+); and so on", "(+)", "Size (-)"])(
    "of another form are one text whose direction is unknown: %s",
    (text) => expect(reasonsOf(text)).toEqual([{ title: text, raises: null }]),
  );

  it.each([null, undefined, "", "  "])("are none where the field is empty: %p", (text) =>
    expect(reasonsOf(text)).toEqual([]),
  );

  it("of the longest field are read at once", () => {
    const began = performance.now();
    expect(reasonsOf("a (+) ".repeat(21_000))).toHaveLength(1);
    expect(performance.now() - began).toBeLessThan(500);
  });
});

describe("the age", () => {
  it.each([
    [0, "just now"],
    [59_999, "just now"],
    [-59_999, "just now"],
    [60_000, "1 minute ago"],
    [3_599_999, "59 minutes ago"],
    [3_600_000, "1 hour ago"],
    [DAY - 1, "23 hours ago"],
    [DAY, "1 day ago"],
    [30 * DAY - 1, "29 days ago"],
    [30 * DAY, "1 month ago"],
    [365 * DAY - 1, "12 months ago"],
    [365 * DAY, "1 year ago"],
    [-2 * 3_600_000, "in 2 hours"],
  ])("%p ms is %s", (age, words) => expect(inWords(age, "en", "just now")).toBe(words));

  it("is told in the language of the user", () => expect(inWords(3 * DAY, "de", "gerade")).toBe("vor 3 Tagen"));

  it("is read from a moment with its zone", () =>
    expect(ageOf("2026-06-15T13:00:00.000+02:00", NOW)).toBe(3_600_000));

  it.each([null, undefined, "", "yesterday"])("is not known of %p", (moment) => expect(ageOf(moment, NOW)).toBeNull());
});

describe("the receipt's address", () => {
  it.each(["https://hub.acme.example/decisions?key=00Q1", " https://hub.acme.example/decisions?key=00Q1 "])(
    "may be opened: %p",
    (address) => expect(receiptOf(address, "")).toBe("https://hub.acme.example/decisions?key=00Q1"),
  );

  it.each([
    "javascript:alert(1)",
    " JaVaScRiPt:alert(1)",
    "java\nscript:alert(1)",
    "javascript://hub.acme.example/%0aalert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:msgbox(1)",
    "blob:https://hub.acme.example/1",
    "http://hub.acme.example/",
    "ftp://hub.acme.example/",
    "//hub.acme.example/",
    "/lightning/page/home",
    "hub.acme.example/decisions",
    "https://hub.acme.example@evil.example/",
    "https://:password@evil.example/",
    "https://",
    "",
    null,
    undefined,
  ])("may not be opened: %p", (address) => expect(receiptOf(address, "")).toBeNull());

  it.each([
    ["https://hub.acme.example/a", "hub.acme.example", true],
    ["https://HUB.acme.example/a", " Hub.Acme.Example ", true],
    ["https://hub.acme.example:8443/a", "hub.acme.example:8443", true],
    ["https://hub.acme.example:8443/a", "hub.acme.example", false],
    ["https://hub.acme.example.evil.example/a", "hub.acme.example", false],
    ["https://evil.example/hub.acme.example", "hub.acme.example", false],
    ["https://evil.example\\@hub.acme.example/", "hub.acme.example", false],
  ])("%s where %p is the host: %p", (address, host, opened) =>
    expect(receiptOf(address, host) !== null).toBe(opened),
  );
});
