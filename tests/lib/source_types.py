"""The type of a Postgres column as a tree, and how both sides are asked for its values.

A scalar is asked for as text, an array of scalars as an array of text. A range, multirange, composite or hstore is asked
for as JSON with text leaves; the lake, which holds them as STRUCT, LIST and MAP, is asked for the same tree with VARCHAR
leaves. spell() then makes both sides equal when their values are.
"""

import json
from dataclasses import dataclass, field

from . import values
from .lake import identifier, quoted

RANGE_FIELDS = ("lower", "upper", "lower_inc", "upper_inc", "empty")


@dataclass
class SourceType:
    kind: str  # scalar array range multirange composite map
    name: str
    children: list = field(default_factory=list)  # (name, SourceType): element, bound, or fields

    @property
    def element(self):
        return self.children[0][1]

    @property
    def is_json(self):
        """True when Postgres is asked for JSON."""
        return self.kind not in ("scalar", "array") or (self.kind == "array" and self.element.kind != "scalar")


def load_type(database, oid):
    """Reads the tree from the catalog; a domain is its base type."""
    typtype, name, base, category, elem, relation = database.query(
        f"SELECT typtype, typname, typbasetype, typcategory, typelem, typrelid FROM pg_type WHERE oid = {oid}"
    )[0]
    if typtype == "d":
        return load_type(database, base)
    if category == "A" and elem:
        return SourceType("array", name, [("element", load_type(database, elem))])
    if typtype == "r":
        bound = database.value(f"SELECT rngsubtype FROM pg_range WHERE rngtypid = {oid}")
        return SourceType("range", name, [("bound", load_type(database, bound))])
    if typtype == "m":
        element = database.value(f"SELECT rngtypid FROM pg_range WHERE rngmultitypid = {oid}")
        return SourceType("multirange", name, [("element", load_type(database, element))])
    if typtype == "c":
        fields = database.query(
            f"SELECT attname, atttypid FROM pg_attribute WHERE attrelid = {relation} AND attnum > 0"
            " AND NOT attisdropped ORDER BY attnum"
        )
        return SourceType("composite", name, [(child, load_type(database, type_oid)) for child, type_oid in fields])
    if name == "hstore":
        return SourceType("map", name)
    return SourceType("scalar", name)


# --- asking ---


def source_expression(type_, sql):
    """SQL for Postgres. At the top a scalar keeps its own text: a cast would trim char(n) and add to inet."""
    if type_.is_json:
        return _json(type_, sql)
    return f"{sql}::text[]" if type_.kind == "array" else sql


def _json(type_, sql):
    """SQL for JSON whose leaves are text."""
    if type_.kind == "scalar":
        return f"to_jsonb({sql}::text)"
    if type_.kind == "map":
        return f"hstore_to_jsonb({sql})"
    if type_.kind == "range":
        calls = ("lower", "upper", "lower_inc", "upper_inc", "isempty")
        pairs = [f"'{name}', {call}({sql})::text" for name, call in zip(RANGE_FIELDS, calls)]
    elif type_.kind == "composite":
        pairs = [f"{quoted(name)}, {_json(child, f'({sql}).{identifier(name)}')}" for name, child in type_.children]
    else:
        rows = f"SELECT jsonb_agg({_json(type_.element, 'e')} ORDER BY n) FROM unnest({sql}) WITH ORDINALITY AS u(e, n)"
        if type_.element.kind == "composite":  # unnest would spread its fields
            rows = (
                f"SELECT jsonb_agg({_json(type_.element, f'({sql})[n]')} ORDER BY n)"
                f" FROM generate_subscripts({sql}, 1) AS u(n)"
            )
        return f"CASE WHEN {sql} IS NOT NULL THEN coalesce(({rows}), '[]') END"
    # A composite of NULLs only "IS NULL" too; its text tells it from NULL.
    return f"CASE WHEN ({sql})::text IS NOT NULL THEN jsonb_build_object({', '.join(pairs)}) END"


def lake_type(type_, depth=1):
    """The DuckDB type with VARCHAR leaves that the lake's column is cast to; DEPTH is that of an array's lists."""
    if type_.kind == "scalar":
        return "VARCHAR"
    if type_.kind == "array":
        return lake_type(type_.element) + "[]" * depth
    if type_.kind == "multirange":
        return lake_type(type_.element) + "[]"
    if type_.kind == "map":
        return "MAP(VARCHAR, VARCHAR)"
    if type_.kind == "range":
        fields = [(name, "VARCHAR") for name in RANGE_FIELDS]
    else:
        fields = [(name, lake_type(child)) for name, child in type_.children]
    return f"STRUCT({', '.join(f'{identifier(name)} {child}' for name, child in fields)})"


# --- spelling ---


def spell(type_, value, side):
    """The canonical form of a value: None, text, or tuples of them. SIDE is 0 for Postgres, 1 for the lake."""
    if value is None:
        return None
    if side == 0 and type_.is_json and isinstance(value, str):
        value = json.loads(value)
    if type_.kind == "scalar":
        return values.spelling(type_.name)[side](value)
    if type_.kind in ("array", "multirange"):
        return _spell_list(type_.element, value, side)
    if type_.kind == "map":
        return tuple(sorted(value.items()))
    if type_.kind == "range":
        flag = SourceType("scalar", "bool")
        fields = dict.fromkeys(RANGE_FIELDS, flag) | dict.fromkeys(("lower", "upper"), type_.element)
    else:
        fields = dict(type_.children)
    return tuple((name, spell(child, value.get(name), side)) for name, child in fields.items())


def _spell_list(element, value, side):
    """Lists of lists are arrays of more than one dimension."""
    return tuple(
        _spell_list(element, item, side) if isinstance(item, (list, tuple)) else spell(element, item, side)
        for item in value
    )
