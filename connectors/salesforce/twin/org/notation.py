"""A field in one line of text, for the compact definitions and for whoever gives an org a field by hand.

A line is `name type [length or precision,scale] [flags]`. Flags: `required`, `create` or `update` (writable by that
operation alone), `fixed` (by none), `unique`, `external`, `lookup`, `restricted`, `defaulted`, `of:Compound`,
`default:Value`, `to:Object+Object:Relationship`, and for a picklist `=One|Two|Three`.
"""

from __future__ import annotations

from connectors.salesforce.twin.org.documents import NUMBERS, Document, field_document, picklist_values


def field_from(line: str) -> Document:
    """The document of the field that one line of the notation above says."""
    words, _, values = line.partition(" =")
    name, kind, *flags = words.split()
    particulars: Document = {"label": _spaced(name)}
    for flag in flags:
        _read_flag(flag, kind, particulars)
    if "fixed" in flags and kind in {"id", "datetime", "reference"} and particulars.get("nillable") is False:
        particulars["defaultedOnCreate"] = True
    if values:
        default = particulars.get("defaultValue")
        particulars["picklistValues"] = picklist_values(values.split("|"), default)
    return field_document(name, kind, **particulars)


def _read_flag(flag: str, kind: str, particulars: Document) -> None:
    word, _, rest = flag.partition(":")
    if word[0].isdigit():
        size = [int(each) for each in word.split(",")]
        if kind in NUMBERS:
            particulars.update({"digits": size[0]} if kind == "int" else {"precision": size[0], "scale": size[-1]})
        else:
            particulars["length"] = size[0]
    elif word == "required":
        particulars["nillable"] = False
    elif word in {"create", "update", "fixed"}:
        particulars.update(createable=word == "create", updateable=word == "update", permissionable=kind == "address")
        if kind == "id":
            particulars["nillable"] = False
    elif word == "of":
        person = {"extraTypeInfo": "personname", "permissionable": False} if rest == "Name" else {}
        particulars.update(compoundFieldName=rest, **person)
    elif word == "to":
        objects, relationship = rest.split(":")
        several = objects.split("+")
        particulars.update(referenceTo=several, relationshipName=relationship)
        particulars.update(polymorphicForeignKey=len(several) > 1, namePointing=len(several) > 1)
    elif word == "default":
        value = rest.replace("_", " ")
        particulars.update(defaultedOnCreate=True, defaultValue=None if value == "me" else value)
    else:
        _read_mark(word, particulars)


def _read_mark(word: str, particulars: Document) -> None:
    marks: dict[str, Document] = {
        "unique": {"unique": True, "idLookup": True},
        "external": {"externalId": True, "idLookup": True},
        "restricted": {"restrictedPicklist": True},
        "lookup": {"idLookup": True},
        "defaulted": {"defaultedOnCreate": True},
    }
    particulars.update(marks[word])


def _spaced(name: str) -> str:
    bare = name.removesuffix("__c").replace("_", " ")
    return "".join(f" {each}" if each.isupper() and place else each for place, each in enumerate(bare)).replace(
        "  ", " "
    )
