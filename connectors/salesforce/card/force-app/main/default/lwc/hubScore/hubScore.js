import { LightningElement, api, wire } from "lwc";
import { getRecord } from "lightning/uiRecordApi";
import LANGUAGE from "@salesforce/i18n/lang";
import LOCALE from "@salesforce/i18n/locale";
import { filled, labels } from "./labels";
import { DAY, ageOf, inWords, reasonsOf, receiptOf } from "./reading";

// Names and no schema imports: those would make the card undeployable where an object lacks one of the fields.
const SCORE = "Score__c";
const BAND = "Score_Band__c";
const REASONS = "Score_Reasons__c";
const SCORED_AT = "Scored_At__c";
const RECEIPT = "Score_Receipt__c";
const FIELDS = [SCORE, BAND, REASONS, SCORED_AT, RECEIPT];
const OBJECTS = ["Lead", "Contact"];
const SAME_RECORD = 15; // the characters that name a record; three more guard against a change of case
const TICK = 60_000;
const STALE_AFTER_DAYS = 30;

/** The score of a Lead or a Contact as the hub wrote it, on the record's page. */
export default class HubScore extends LightningElement {
  @api recordId;
  @api objectApiName;
  @api staleAfterDays = STALE_AFTER_DAYS;
  @api receiptHost = "";

  labels = labels;
  record;
  error;
  now = Date.now();
  timer;

  @wire(getRecord, { recordId: "$recordId", optionalFields: "$fieldNames" })
  read({ data, error }) {
    this.record = data;
    this.error = error;
    this.now = Date.now();
  }

  connectedCallback() {
    // A page stays open for hours, and the age must not stand still on it.
    this.timer = setInterval(() => {
      this.now = Date.now();
    }, TICK);
  }

  disconnectedCallback() {
    clearInterval(this.timer);
  }

  /** Undefined keeps the platform from asking: before the object is known, and for one that has no such fields. */
  get fieldNames() {
    return OBJECTS.includes(this.objectApiName) ? FIELDS.map((name) => `${this.objectApiName}.${name}`) : undefined;
  }

  get failure() {
    if (!this.error) {
      return null;
    }
    const status = this.error.status ?? this.error.body?.statusCode;
    return status === 403 || status === 404 ? labels.unseen : labels.failed;
  }

  get failureDetail() {
    const { body, message } = this.error ?? {};
    const told = Array.isArray(body) ? body.map((each) => each?.message) : [body?.message ?? message];
    return told.filter(Boolean).join(" ");
  }

  /** What there is to say where there is no score to show. */
  get notice() {
    if (this.objectApiName && !this.fieldNames) {
      return labels.wrongObject;
    }
    if (!this.arrived) {
      return labels.loading;
    }
    if (!this.shows(SCORE) && !this.shows(BAND)) {
      return labels.hidden;
    }
    return this.blank(SCORE) && this.blank(BAND) ? labels.noScore : null;
  }

  get score() {
    const value = this.value(SCORE);
    return typeof value === "number"
      ? new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 2 }).format(value)
      : value;
  }

  get hasScore() {
    return !this.blank(SCORE);
  }

  get band() {
    return this.value(BAND);
  }

  get reasons() {
    return reasonsOf(this.value(REASONS)).map(({ title, raises }, place) => ({
      key: place,
      title,
      mark: raises === null ? "" : raises ? "▲" : "▼",
      direction: raises === null ? "" : raises ? labels.raises : labels.lowers,
    }));
  }

  get hasReasons() {
    return this.reasons.length > 0;
  }

  get showsAge() {
    return this.shows(SCORED_AT);
  }

  get age() {
    const age = ageOf(this.value(SCORED_AT), this.now);
    return age === null ? labels.noAge : inWords(age, LANGUAGE, labels.justNow);
  }

  get stale() {
    const days = Number(this.staleAfterDays);
    return days > 0 && ageOf(this.value(SCORED_AT), this.now) > days * DAY;
  }

  get staleWhy() {
    return filled(labels.staleWhy, this.staleAfterDays);
  }

  get receipt() {
    return this.blank(RECEIPT) ? null : receiptOf(this.value(RECEIPT), this.receiptHost);
  }

  get badReceipt() {
    return !this.blank(RECEIPT) && !this.receipt;
  }

  /** Names what field-level security hides. A receipt is optional: where there is none, nothing is missed. */
  get partlyHidden() {
    const parts = [
      [SCORE, labels.score],
      [BAND, labels.band],
      [REASONS, labels.reasons],
      [SCORED_AT, labels.age],
    ];
    const hidden = parts.filter(([name]) => !this.shows(name)).map(([, label]) => label);
    return hidden.length ? filled(labels.partlyHidden, hidden.join(", ")) : null;
  }

  /** Whether the record at hand is the one of the page: after a change of page the old one stays until the new comes. */
  get arrived() {
    return Boolean(this.record) && this.record.id?.slice(0, SAME_RECORD) === this.recordId?.slice(0, SAME_RECORD);
  }

  shows(name) {
    return Boolean(this.record.fields?.[name]);
  }

  value(name) {
    return this.record.fields?.[name]?.value ?? null;
  }

  blank(name) {
    return this.value(name) === null || this.value(name) === "";
  }
}
