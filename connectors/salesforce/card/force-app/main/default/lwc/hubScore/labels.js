// The words of the card: custom labels, so that an org's translators can put them into its languages.
import title from "@salesforce/label/c.HubScore_Title";
import loading from "@salesforce/label/c.HubScore_Loading";
import noScore from "@salesforce/label/c.HubScore_NoScore";
import hidden from "@salesforce/label/c.HubScore_Hidden";
import partlyHidden from "@salesforce/label/c.HubScore_PartlyHidden";
import wrongObject from "@salesforce/label/c.HubScore_WrongObject";
import failed from "@salesforce/label/c.HubScore_Failed";
import unseen from "@salesforce/label/c.HubScore_Unseen";
import score from "@salesforce/label/c.HubScore_Score";
import band from "@salesforce/label/c.HubScore_Band";
import reasons from "@salesforce/label/c.HubScore_Reasons";
import age from "@salesforce/label/c.HubScore_Age";
import raises from "@salesforce/label/c.HubScore_Raises";
import lowers from "@salesforce/label/c.HubScore_Lowers";
import justNow from "@salesforce/label/c.HubScore_JustNow";
import noAge from "@salesforce/label/c.HubScore_NoAge";
import stale from "@salesforce/label/c.HubScore_Stale";
import staleWhy from "@salesforce/label/c.HubScore_StaleWhy";
import receipt from "@salesforce/label/c.HubScore_Receipt";
import newTab from "@salesforce/label/c.HubScore_NewTab";
import badReceipt from "@salesforce/label/c.HubScore_BadReceipt";

export const labels = {
  title,
  loading,
  noScore,
  hidden,
  partlyHidden,
  wrongObject,
  failed,
  unseen,
  score,
  band,
  reasons,
  age,
  raises,
  lowers,
  justNow,
  noAge,
  stale,
  staleWhy,
  receipt,
  newTab,
  badReceipt,
};

/** The text with `{0}` replaced. */
export function filled(text, value) {
  return text.replace("{0}", () => String(value));
}
