// What the hub wrote into the fields of a record, read back: reasons, age and the address of the receipt.

// One reason as `reasons(n)` of a mapping writes it: `Days since first contact (+)`, joined by `; `.
const REASON = /(.+?) \(([+−])\)(?:; |$)/gsuy;

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;
const UNITS = [
  ["year", 365 * DAY],
  ["month", 30 * DAY],
  ["day", DAY],
  ["hour", HOUR],
  ["minute", MINUTE],
];

/** [{title, raises}] in the order written; a text of another form is one reason whose direction is not known (null). */
export function reasonsOf(text) {
  const whole = (text ?? "").trim();
  if (!whole) {
    return [];
  }
  const found = [...whole.matchAll(REASON)];
  const covered = found.reduce((length, each) => length + each[0].length, 0);
  if (covered !== whole.length) {
    return [{ title: whole, raises: null }];
  }
  return found.map(([, title, sign]) => ({ title, raises: sign === "+" }));
}

/** Milliseconds since the moment, or null where it is none. */
export function ageOf(moment, now) {
  const at = Date.parse(moment ?? "");
  return Number.isNaN(at) ? null : now - at;
}

/** `3 days ago` in the language given; whole units, rounded down. Within a minute of now: `justNow`. */
export function inWords(age, language, justNow) {
  const [unit, length] = UNITS.find((each) => Math.abs(age) >= each[1]) ?? [];
  if (!unit) {
    return justNow;
  }
  return new Intl.RelativeTimeFormat(language, { numeric: "always" }).format(-Math.trunc(age / length), unit);
}

/**
 * The address as it may be opened, or null. Whoever may edit the field chooses the address, so it is https,
 * carries no user name that could pass for a host, and leads to `host` where one is set.
 */
export function receiptOf(address, host) {
  let url;
  try {
    url = new URL(String(address).trim());
  } catch {
    return null;
  }
  const wanted = (host ?? "").trim().toLowerCase();
  const fits = !wanted || url.host === wanted;
  return url.protocol === "https:" && !url.username && !url.password && fits ? url.href : null;
}
