"""The objects of a new org, written down compactly: enough of Sales Cloud to score leads, and where rights are kept."""

from __future__ import annotations

from connectors.salesforce.twin.org.documents import Document, object_document
from connectors.salesforce.twin.org.notation import field_from

_SYSTEM = """
Id id fixed
IsDeleted boolean fixed
"""
_STAMPS = """
CreatedDate datetime fixed required
CreatedById reference fixed required to:User:CreatedBy
LastModifiedDate datetime fixed required
LastModifiedById reference fixed required to:User:LastModifiedBy
SystemModstamp datetime fixed required
"""
_PERSON = """
LastName string 80 required of:Name
FirstName string 40 of:Name
Salutation picklist 40 of:Name =Mr.|Ms.|Mrs.|Dr.|Prof.
Name string 121 fixed required
"""
_OWNER = "OwnerId reference required to:User:Owner default:me"
_OWNER_OR_QUEUE = "OwnerId reference required to:Group+User:Owner default:me"
_INDUSTRIES = (
    "Agriculture|Apparel|Banking|Biotechnology|Chemicals|Communications|Construction|Consulting|Education|Electronics"
    "|Energy|Engineering|Entertainment|Environmental|Finance|Food & Beverage|Government|Healthcare|Hospitality"
    "|Insurance|Machinery|Manufacturing|Media|Not For Profit|Recreation|Retail|Shipping|Technology"
    "|Telecommunications|Transportation|Utilities|Other"
)
_SOURCES = "Web|Phone Inquiry|Partner Referral|Purchased List|Other"
_RATINGS = "Hot|Warm|Cold"
_LEAD_STATES = "Open - Not Contacted|Working - Contacted|Closed - Converted|Closed - Not Converted"
_STAGES = (
    "Prospecting|Qualification|Needs Analysis|Value Proposition|Id. Decision Makers|Perception Analysis"
    "|Proposal/Price Quote|Negotiation/Review|Closed Won|Closed Lost"
)


def _address(prefix: str) -> str:
    of = f"of:{prefix}Address"
    return f"""
{prefix}Street textarea 255 {of}
{prefix}City string 40 {of}
{prefix}State string 80 {of}
{prefix}PostalCode string 20 {of}
{prefix}Country string 80 {of}
{prefix}Latitude double 18,15 {of}
{prefix}Longitude double 18,15 {of}
{prefix}Address address fixed
"""


_ACCOUNT = f"""
Name string 255 required
Type picklist 40 =Prospect|Customer - Direct|Customer - Channel|Other
ParentId reference to:Account:Parent
{_address("Billing")}
{_address("Shipping")}
Phone phone 40
Fax phone 40
AccountNumber string 40
Website url 255
Industry picklist 40 ={_INDUSTRIES}
AnnualRevenue currency 18,0
NumberOfEmployees int 8
Ownership picklist 40 =Public|Private|Subsidiary|Other
Rating picklist 40 ={_RATINGS}
Description textarea 32000
{_OWNER}
"""
_LEAD = f"""
{_PERSON}
Title string 128
Company string 255 required
{_address("")}
Phone phone 40
MobilePhone phone 40
Email email 80
Website url 255
Description textarea 32000
LeadSource picklist ={_SOURCES}
Status picklist required default:Open_-_Not_Contacted ={_LEAD_STATES}
Industry picklist ={_INDUSTRIES}
Rating picklist ={_RATINGS}
AnnualRevenue currency 18,0
NumberOfEmployees int 8
{_OWNER_OR_QUEUE}
IsConverted boolean create
ConvertedDate date fixed
ConvertedAccountId reference fixed to:Account:ConvertedAccount
ConvertedContactId reference fixed to:Contact:ConvertedContact
ConvertedOpportunityId reference fixed to:Opportunity:ConvertedOpportunity
IsUnreadByOwner boolean
LastActivityDate date fixed
"""
_CONTACT = f"""
AccountId reference to:Account:Account
{_PERSON}
{_address("Mailing")}
Phone phone 40
MobilePhone phone 40
ReportsToId reference to:Contact:ReportsTo
Email email 80
Title string 128
Department string 80
LeadSource picklist ={_SOURCES}
Birthdate date
Description textarea 32000
{_OWNER}
HasOptedOutOfEmail boolean
"""
_OPPORTUNITY = f"""
AccountId reference to:Account:Account
Name string 120 required lookup
Description textarea 32000
StageName picklist required ={_STAGES}
Amount currency 18,2
Probability percent 3,0 defaulted
CloseDate date required
Type picklist =Existing Business|New Business
NextStep string 255
LeadSource picklist ={_SOURCES}
IsClosed boolean fixed
IsWon boolean fixed
{_OWNER}
"""
_TASK = f"""
WhoId reference to:Contact+Lead:Who
WhatId reference to:Account+Opportunity:What
Subject string 255
ActivityDate date
Status picklist required default:Not_Started =Not Started|In Progress|Completed|Waiting on someone else|Deferred
Priority picklist required default:Normal =High|Normal|Low
IsClosed boolean fixed
Description textarea 32000
{_OWNER_OR_QUEUE}
"""
_USER = """
Username string 80 required unique
LastName string 80 required of:Name
FirstName string 40 of:Name
Name string 121 fixed required
CompanyName string 80
Email email 128 required
Alias string 8 required
Title string 80
Department string 80
IsActive boolean
UserType picklist 40 fixed =Standard|Guest|AutomatedProcess
ProfileId reference required to:Profile:Profile
"""
_GROUP = """
Name string 40 required
DeveloperName string 80
Type picklist 40 =Queue|Regular
"""
_ORGANIZATION = """
Name string 80 required
IsSandbox boolean fixed
InstanceName string 5 fixed
OrganizationType picklist 40 fixed =Enterprise Edition|Developer Edition
TimeZoneSidKey picklist 40 =America/Los_Angeles|Europe/Berlin|UTC
DefaultLocaleSidKey string 40
NamespacePrefix string 15 fixed
"""
_RECORD_TYPE = """
Name string 80 required
DeveloperName string 80 required
SobjectType picklist 40 required
Description string 255
IsActive boolean
"""
_PROFILE = """
Name string 255 required
PermissionsModifyAllData boolean
PermissionsCustomizeApplication boolean
PermissionsApiEnabled boolean
"""
_PERMISSION_SET = """
Name string 80 required unique
Label string 80 required
Description string 255
IsOwnedByProfile boolean fixed
IsCustom boolean fixed
ProfileId reference fixed to:Profile:Profile
PermissionsApiEnabled boolean
"""
_ASSIGNMENT = """
PermissionSetId reference create required to:PermissionSet:PermissionSet
AssigneeId reference create required to:User:Assignee
"""
_OBJECT_PERMISSIONS = """
ParentId reference create required to:PermissionSet:Parent
SobjectType picklist 40 create required
PermissionsCreate boolean
PermissionsRead boolean
PermissionsEdit boolean
PermissionsDelete boolean
PermissionsViewAllRecords boolean
PermissionsModifyAllRecords boolean
"""
_FIELD_PERMISSIONS = """
ParentId reference create required to:PermissionSet:Parent
SobjectType picklist 40 create required
Field picklist 255 create required
PermissionsEdit boolean
PermissionsRead boolean
"""
_CUSTOM_FIELD = """
TableEnumOrId picklist 40 fixed
DeveloperName string 80 fixed
FullName string 255 create
NamespacePrefix string 15 fixed
Metadata textarea 32000
"""

_SETUP: Document = {
    "custom": False,
    "feedEnabled": False,
    "layoutable": False,
    "searchable": False,
    "triggerable": False,
}
_OBJECTS: tuple[tuple[str, str, str, str, str, Document], ...] = (
    ("Account", "001", "Account", "Accounts", _ACCOUNT, {"mergeable": True}),
    ("Contact", "003", "Contact", "Contacts", _CONTACT, {"mergeable": True}),
    ("Lead", "00Q", "Lead", "Leads", _LEAD, {"mergeable": True}),
    ("Opportunity", "006", "Opportunity", "Opportunities", _OPPORTUNITY, {"deepCloneable": True}),
    ("Task", "00T", "Task", "Tasks", _TASK, {}),
    ("User", "005", "User", "Users", _USER, {"deletable": False, "undeletable": False}),
    ("Group", "00G", "Group", "Groups", _GROUP, _SETUP),
    ("Organization", "00D", "Organization", "Organizations", _ORGANIZATION, {**_SETUP, "createable": False}),
    ("RecordType", "012", "Record Type", "Record Types", _RECORD_TYPE, {**_SETUP, "createable": False}),
    ("Profile", "00e", "Profile", "Profiles", _PROFILE, {**_SETUP, "createable": False}),
    ("PermissionSet", "0PS", "Permission Set", "Permission Sets", _PERMISSION_SET, _SETUP),
    ("PermissionSetAssignment", "0Pa", "Permission Set Assignment", "Permission Set Assignments", _ASSIGNMENT, _SETUP),
    ("ObjectPermissions", "110", "Object Permissions", "Object Permissions", _OBJECT_PERMISSIONS, _SETUP),
    ("FieldPermissions", "01k", "Field Permissions", "Field Permissions", _FIELD_PERMISSIONS, _SETUP),
    ("CustomField", "00N", "Custom Field", "Custom Fields", _CUSTOM_FIELD, _SETUP),
)
TOOLING = frozenset({"CustomField"})
"""Objects that the Tooling API alone shows."""
SETUP = frozenset(name for name, *_, particulars in _OBJECTS if particulars.get("layoutable") is False) | {"User"}
"""Objects of the org's own set-up: everybody may read them, administrators write them."""


def standard_objects() -> list[Document]:
    """The describe documents of a new org, fields included."""
    return [_object(*each) for each in _OBJECTS]


def _object(name: str, prefix: str, label: str, plural: str, lines: str, particulars: Document) -> Document:
    written = [each for each in f"{_SYSTEM}{lines}{_STAMPS}".splitlines() if each.strip()]
    fields = [field_from(each) for each in written]
    names = {each["name"]: each for each in fields}
    if "Name" in names:
        names["Name"].update(nameField=True)
    return {**object_document(name, prefix, label, plural, **particulars), "fields": fields}
