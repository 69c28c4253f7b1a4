//! The HTTP surface as OpenAPI 3.1, made from the route table and the parameters' own lists, so that it cannot
//! say what the router does not do.
//!
//! A copy is kept beside the sources; a test holds the two together.

use crate::access::Scope;
use crate::error::Code;
use crate::export::Format;
use crate::limits;
use crate::query::{
    ExportRequest, FACETS, FacetRequest, FeedRequest, ListRequest, StatsRequest, TailRequest,
};
use crate::refusal::REFUSED_PARAMETERS;
use crate::routes::{Endpoint, ROUTES, Route};
use serde_json::{Map, Value, json};

/// The document, as JSON.
pub fn document() -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(&value()).expect("a JSON value always serialises");
    text.push(b'\n');
    text
}

fn value() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        // OpenAPI has no parameter that spans segments: the value of this one has slashes in it.
        let path = paths.entry(route.template.replace('+', "")).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Stele",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Audit logs set in stone: send events, search them, prove them.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {
                "type": "http",
                "scheme": "bearer",
                "description": "An API key. The scope an operation needs is in its `x-scope`.",
            }},
            "responses": {"problem": {
                "description": "What is wrong (RFC 9457)",
                "headers": {"Request-Id": {"schema": {"type": "string"}}},
                "content": {"application/problem+json": {"schema": reference("Problem")}},
            }},
            "schemas": all_schemas(),
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut operation = json!({
        "operationId": operation_id(route.endpoint),
        "summary": route.summary,
        "responses": responses(route.endpoint),
    });
    match route.scope {
        Some(scope) => {
            operation["security"] = json!([{"key": []}]);
            operation["x-scope"] = json!(scope.as_str());
        }
        None => operation["security"] = json!([]),
    }
    let parameters = parameters(route);
    if !parameters.is_empty() {
        operation["parameters"] = json!(parameters);
    }
    if let Some(body) = body(route.endpoint) {
        operation["requestBody"] = body;
    }
    operation
}

const fn operation_id(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::SendEvent => "sendEvent",
        Endpoint::SendBatch => "sendEvents",
        Endpoint::Validate => "validateEvent",
        Endpoint::ListEvents => "listEvents",
        Endpoint::Export => "exportEvents",
        Endpoint::CreateExport => "createExport",
        Endpoint::Exports => "exports",
        Endpoint::ExportJob => "export",
        Endpoint::ExportFile => "exportFile",
        Endpoint::Event => "event",
        Endpoint::Stats => "eventStats",
        Endpoint::Facet => "facet",
        Endpoint::Tail => "tailEvents",
        Endpoint::Feed => "feed",
        Endpoint::ParseFilter => "parseFilter",
        Endpoint::Refused => "refused",
        Endpoint::Usage => "usage",
        Endpoint::EventProof => "eventProof",
        Endpoint::Checkpoint => "checkpoint",
        Endpoint::Checkpoints => "checkpoints",
        Endpoint::Statements => "statements",
        Endpoint::Consistency => "consistencyProof",
        Endpoint::Tile => "tile",
        Endpoint::LogKeys => "logKeys",
        Endpoint::Retention => "retention",
        Endpoint::SetRetention => "setRetention",
        Endpoint::PlaceHold => "placeLegalHold",
        Endpoint::Holds => "legalHolds",
        Endpoint::Hold => "legalHold",
        Endpoint::ReleaseHold => "releaseLegalHold",
        Endpoint::CreateApiKey => "createApiKey",
        Endpoint::ApiKeys => "apiKeys",
        Endpoint::RevokeApiKey => "revokeApiKey",
        Endpoint::Health => "health",
        Endpoint::OpenApi => "openApi",
    }
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn parameters(route: &Route) -> Vec<Value> {
    let names = route.template.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let names = names.map(|name| name.trim_end_matches('+'));
    let path = |name: &str| match (route.endpoint, name) {
        (Endpoint::Facet, _) => json!({"type": "string", "enum": FACETS.map(|(name, _)| name)}),
        _ => json!({"type": "string"}),
    };
    let mut all: Vec<Value> = names
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": path(name)}))
        .collect();
    let tenant: &[&str] = &["tenant_id", "organization_id"];
    let query: &[&str] = match route.endpoint {
        Endpoint::ListEvents => &ListRequest::PARAMETERS,
        Endpoint::Export => &ExportRequest::PARAMETERS,
        Endpoint::Stats => &StatsRequest::PARAMETERS,
        Endpoint::Facet => &FacetRequest::PARAMETERS,
        Endpoint::Feed => &FeedRequest::PARAMETERS,
        Endpoint::Tail => &TailRequest::PARAMETERS,
        Endpoint::Exports => &["tenant_id", "organization_id", "limit", "cursor"],
        Endpoint::Event
        | Endpoint::ParseFilter
        | Endpoint::ExportJob
        | Endpoint::ExportFile
        | Endpoint::Usage
        | Endpoint::Tile
        | Endpoint::LogKeys
        | Endpoint::Retention
        | Endpoint::Hold
        | Endpoint::ReleaseHold
        | Endpoint::ApiKeys => tenant,
        Endpoint::EventProof => &["tenant_id", "organization_id", "checkpoint"],
        Endpoint::Checkpoint => &["tenant_id", "organization_id", "size"],
        Endpoint::Checkpoints => &["tenant_id", "organization_id", "from_size", "limit"],
        Endpoint::Statements => &["tenant_id", "organization_id", "after", "limit"],
        Endpoint::Consistency => &["tenant_id", "organization_id", "from", "to"],
        Endpoint::SetRetention => &["tenant_id", "organization_id", "preview"],
        Endpoint::Holds => &["tenant_id", "organization_id", "state"],
        Endpoint::Refused => REFUSED_PARAMETERS,
        Endpoint::SendEvent
        | Endpoint::SendBatch
        | Endpoint::Validate
        | Endpoint::CreateExport
        | Endpoint::PlaceHold
        | Endpoint::CreateApiKey
        | Endpoint::RevokeApiKey
        | Endpoint::Health
        | Endpoint::OpenApi => &[],
    };
    all.extend(query.iter().map(|name| match (route.endpoint, *name) {
        (Endpoint::Consistency, "from") => tree_size(name, true, "The smaller tree size, at least 1"),
        (Endpoint::Consistency, "to") => {
            tree_size(name, false, "The larger tree size; without it, the log's")
        }
        (Endpoint::Checkpoint, "size") => tree_size(name, false, "Of this tree size; without it, the latest"),
        (Endpoint::Checkpoints, "from_size") => tree_size(name, false, "Of this tree size and larger"),
        (Endpoint::Facet, "limit") => json!({
            "name": name, "in": "query", "required": false,
            "description": "Values at the most, the most frequent first",
            "schema": {"type": "integer", "minimum": 1, "maximum": limits::FACET_LIMIT_MAX,
                       "default": limits::FACET_LIMIT_DEFAULT},
        }),
        (Endpoint::Feed, "after") => json!({"name": name, "in": "query", "required": false,
            "description": "Behind the leaf with this index: the `next_after` of the answer before",
            "schema": {"type": "integer", "minimum": 0}}),
        (Endpoint::Feed, "limit") => json!({"name": name, "in": "query", "required": false,
            "description": "Events of an answer at the most",
            "schema": {"type": "integer", "minimum": 1, "maximum": limits::FEED_LIMIT_MAX,
                       "default": limits::FEED_LIMIT_DEFAULT}}),
        (_, name) => query_parameter(name),
    }));
    let headers: &[(&str, &str)] = match route.endpoint {
        Endpoint::SendEvent => &[
            ("Idempotency-Key", "Makes a repeated request answer with the first one's event, for 24 hours"),
            ("Prefer", "`respond-async` (RFC 7240): answer before the event is in the hot store"),
        ],
        Endpoint::CreateExport => &[(
            "Idempotency-Key",
            "Makes a repeated request answer with the first one's export, for 24 hours",
        )],
        Endpoint::ExportFile => &[("Range", "`bytes=<first>-`: the rest of the file (RFC 9110)")],
        Endpoint::PlaceHold => &[(
            "Idempotency-Key",
            "Makes a repeated request answer with the first one's hold; without it each request places one",
        )],
        _ => &[],
    };
    all.extend(headers.iter().map(|(name, description)| {
        json!({"name": name, "in": "header", "required": false, "description": description,
               "schema": {"type": "string"}})
    }));
    all
}

fn tree_size(name: &str, required: bool, description: &str) -> Value {
    json!({"name": name, "in": "query", "required": required, "description": description,
           "schema": {"type": "integer", "minimum": 0}})
}

fn query_parameter(name: &str) -> Value {
    let text = json!({"type": "string", "minLength": 1});
    let many = |item: Value| json!({"type": "array", "items": item, "minItems": 1});
    let (schema, description) = match name {
        "q" => (
            json!({"type": "string", "minLength": 1, "maxLength": limits::FILTER_BYTES_MAX}),
            "A filter in the filter language, such as `time:-7d action:invoice.* (actor:alice OR ip:10.0.0.0/8)`; what other parameters ask must hold, too",
        ),
        "from" | "start_date" => (text, "First time, included: RFC 3339 with an offset, or a UTC day"),
        "to" => (text, "Last time, excluded: RFC 3339 with an offset, or a UTC day"),
        "end_date" => (text, "Last time, included: RFC 3339, or a whole UTC day"),
        "actor_id" => (many(text), "Exact id of the actor; repeated: any of them"),
        "actor_name" => (many(text), "Part of the actor's name, in any case"),
        "action" => (many(text), "Exact, or a prefix as in `invoice.*`, or a part without a dot"),
        "resource_type" => (many(text), "Exact type of the resource"),
        "resource_id" => (many(text), "Exact id of the resource"),
        "outcome" => {
            (many(json!({"type": "string", "enum": ["success", "failure", "denied"]})), "How it ended")
        }
        "ip" => (many(text), "An IP address"),
        "search" => (many(text), "Part of action, ids, names, description or metadata, in any case"),
        "order" => {
            (json!({"type": "string", "enum": ["desc", "asc"], "default": "desc"}), "By time, then id")
        }
        "limit" => (
            json!({"type": "integer", "minimum": 1, "maximum": limits::PAGE_LIMIT_MAX,
                   "default": limits::PAGE_LIMIT_DEFAULT}),
            "Events of a page at the most",
        ),
        "offset" => (
            json!({"type": "integer", "minimum": 0, "maximum": limits::OFFSET_MAX, "default": 0}),
            "Events to leave out; not together with `cursor`",
        ),
        "checkpoint" => (
            json!({"type": "string", "enum": ["latest", "stated"], "default": "latest"}),
            "Under the latest checkpoint, or under the latest that was stated and witnessed",
        ),
        "since" => (text, "The `next_since` of the answer before"),
        "wait" => (
            json!({"type": "integer", "minimum": 0, "maximum": limits::POLL_WAIT_SECONDS_MAX, "default": 0}),
            "Seconds to wait for something new",
        ),
        "after" => (text, "Made after the hour this time lies in: RFC 3339"),
        "cursor" => (text, "The `next_cursor` of the page before"),
        "format" => (
            json!({"type": "string", "enum": ["csv", "jsonl", "json", "evidence"], "default": "json"}),
            "Of the file; `evidence` is a bundle that proves what is in it, and needs `exports:write` and `proofs:read` too",
        ),
        "covering" => (
            json!({"type": "boolean", "default": false}),
            "Of a bundle: also the events in between, so that it can be seen that none was left out",
        ),
        "interval" => (
            json!({"type": "string", "enum": ["hour", "day", "month"], "default": "day"}),
            "The length of a step, in UTC",
        ),
        "group_by" => (
            json!({"type": "string", "enum": FACETS.map(|(name, _)| name)}),
            "Count apart by the values of a field, the most frequent ones",
        ),
        "preview" => {
            (json!({"type": "boolean", "default": false}), "Answer what would change, and change nothing")
        }
        "state" => (
            many(json!({"type": "string", "enum": ["applying", "in_force", "releasing", "released"]})),
            "Only holds in this state; repeated: any of them",
        ),
        "tenant_id" => (text, "The tenant; a key bound to one implies it"),
        "organization_id" => (text, "Another name of `tenant_id`"),
        _ => (text, ""),
    };
    json!({"name": name, "in": "query", "required": false, "description": description, "schema": schema})
}

fn body(endpoint: Endpoint) -> Option<Value> {
    let content = match endpoint {
        Endpoint::SendEvent | Endpoint::Validate => {
            json!({"application/json": {"schema": reference("Event")}})
        }
        Endpoint::SendBatch => json!({
            "application/json": {"schema": {
                "type": "object",
                "required": ["events"],
                "properties": {
                    "events": {"type": "array", "items": reference("Event"), "maxItems": limits::BATCH_EVENTS_MAX},
                },
            }},
            "application/x-ndjson": {"schema": {"type": "string", "description": "One event per line"}},
        }),
        Endpoint::ParseFilter => json!({"application/json": {"schema": {
            "type": "object",
            "required": ["q"],
            "properties": {"q": {"type": "string", "description": "A filter in the filter language"}},
        }}}),
        Endpoint::SetRetention => json!({"application/json": {"schema": reference("NewRetention")}}),
        Endpoint::CreateExport => json!({"application/json": {"schema": reference("NewExport")}}),
        Endpoint::PlaceHold => json!({"application/json": {"schema": reference("NewLegalHold")}}),
        Endpoint::CreateApiKey => json!({"application/json": {"schema": reference("NewApiKey")}}),
        _ => return None,
    };
    Some(json!({"required": true, "content": content}))
}

fn responses(endpoint: Endpoint) -> Value {
    let json_of = |description: &str, schema: Value| json!({"description": description, "content": {"application/json": {"schema": schema}}});
    let events = json!({"type": "array", "items": reference("Record")});
    let object = json!({"type": "object"});
    let text = json!({"type": "string"});
    let count = json!({"type": "integer", "minimum": 0});
    let mut all = match endpoint {
        Endpoint::SendEvent => json!({
            "201": json_of("The event is stored", reference("Accepted")),
            "200": json_of("It was stored before; the receipt is the first one's", reference("Accepted")),
            "202": json_of("It is in the queue, durably; there is no leaf hash yet", reference("Queued")),
        }),
        Endpoint::SendBatch => json!({"200": json_of("What became of each event", reference("BatchResult"))}),
        Endpoint::Validate => {
            json!({"200": json_of("The event would be accepted, as this record", reference("Valid"))})
        }
        Endpoint::ListEvents => json!({"200": json_of("A page", reference("Page"))}),
        Endpoint::Export => json!({"200": {"description": "The file", "content": {
            "application/json": {"schema": events},
            "application/x-ndjson": {"schema": {"type": "string"}},
            "text/csv": {"schema": {"type": "string"}},
            "application/zip": {"schema": {"type": "string"}},
        }}}),
        Endpoint::CreateExport => json!({
            "202": json_of("It is queued; `Location` says where to ask how far it is", reference("Export")),
            "200": json_of("It was asked for before, with this `Idempotency-Key`", reference("Export")),
        }),
        Endpoint::Exports => json!({"200": json_of("Exports, latest first", json!({
            "type": "object",
            "required": ["exports", "next_cursor"],
            "properties": {
                "exports": {"type": "array", "items": reference("Export")},
                "next_cursor": {"type": ["string", "null"], "description": "`null` at the end"},
            },
        }))}),
        Endpoint::ExportJob => json!({"200": json_of("The export", reference("Export"))}),
        Endpoint::ExportFile => json!({
            "200": {"description": "The file", "content": {"application/octet-stream": {"schema": text}}},
            "206": {"description": "The rest of it", "content": {"application/octet-stream": {"schema": text}}},
            "307": {"description": "The file is at `Location`, for a while, and without an API key"},
        }),
        Endpoint::Event => json!({"200": json_of("The event", reference("Record"))}),
        Endpoint::Stats => json!({"200": json_of("Steps with events, earliest first", reference("Stats"))}),
        Endpoint::Facet => json!({"200": json_of("Values, most frequent first", reference("Facet"))}),
        Endpoint::Feed => json!({"200": json_of("Events, in leaf order", reference("FeedPage"))}),
        Endpoint::Tail => json!({"200": json_of("Events, as they were received", reference("TailPage"))}),
        Endpoint::ParseFilter => json!({"200": json_of("The filter, explained", reference("ParsedFilter"))}),
        Endpoint::Refused => json!({"200": json_of("Refusals, latest first", reference("Refusals"))}),
        Endpoint::Usage => json!({"200": json_of("Counts", reference("Usage"))}),
        Endpoint::EventProof => json!({"200": {
            "description": "The proof, as c2sp.org/tlog-proof has it or, if `Accept` asks for it, in JSON",
            "content": {
                "text/plain": {"schema": text},
                "application/json": {"schema": reference("EventProof")},
            },
        }}),
        Endpoint::Checkpoints => json!({"200": json_of("Checkpoints, smallest first", json!({
            "type": "object",
            "required": ["checkpoints", "next_from"],
            "properties": {
                "checkpoints": {"type": "array", "items": {
                    "type": "object",
                    "required": ["size", "checkpoint"],
                    "properties": {"size": count, "checkpoint": text},
                }},
                "next_from": {"type": ["integer", "null"], "minimum": 0},
            },
        }))}),
        Endpoint::Statements => json!({"200": json_of("Statements, earliest first", json!({
            "type": "object",
            "required": ["statements", "next_after"],
            "properties": {
                "statements": {"type": "array", "items": {
                    "type": "object",
                    "required": ["stated_at", "size", "statement"],
                    "properties": {"stated_at": {"type": "string", "format": "date-time"}, "size": count, "statement": text},
                }},
                "next_after": {"type": ["string", "null"], "format": "date-time"},
            },
        }))}),
        Endpoint::Consistency => json!({"200": json_of("The proof (RFC 6962), hashes in base64", json!({
            "type": "object",
            "required": ["from", "to", "proof"],
            "properties": {"from": count, "to": count, "proof": {"type": "array", "items": text}},
        }))}),
        Endpoint::Tile => json!({"200": {
            "description": "Hashes of 32 bytes one after the other, or leaves with their lengths before them",
            "content": {"application/octet-stream": {"schema": text}},
        }}),
        Endpoint::Checkpoint => json!({"200": {
            "description": "A C2SP tlog-checkpoint as a signed note",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        }}),
        Endpoint::LogKeys => {
            json!({"200": json_of("The keys", json!({"type": "array", "items": reference("LogKey")}))})
        }
        Endpoint::Retention => json!({"200": json_of(
            "A tenant's retention; to a platform key that names no tenant, what new tenants get",
            reference("Retention"),
        )}),
        Endpoint::SetRetention => {
            json!({"200": json_of("What changes, and what can't be undone", reference("RetentionChange"))})
        }
        Endpoint::PlaceHold => json!({
            "201": json_of("The hold is on record; objects follow", reference("LegalHold")),
            "200": json_of("It was placed before, with this `Idempotency-Key`", reference("LegalHold")),
        }),
        Endpoint::Holds => json!({"200": json_of("The holds, open ones first, latest first", json!({
            "type": "object",
            "required": ["legal_holds"],
            "properties": {"legal_holds": {"type": "array", "items": reference("LegalHold")}},
        }))}),
        Endpoint::Hold => json!({"200": json_of("The hold", reference("LegalHold"))}),
        Endpoint::ReleaseHold => {
            json!({"200": json_of("The hold as it is now; repeated, the same", reference("LegalHold"))})
        }
        Endpoint::CreateApiKey => {
            json!({"201": json_of("The key; its text is shown only here", reference("ApiKey"))})
        }
        Endpoint::ApiKeys => json!({"200": json_of("The keys, without their texts", json!({
            "type": "object",
            "required": ["api_keys"],
            "properties": {"api_keys": {"type": "array", "items": reference("ApiKey")}},
        }))}),
        Endpoint::RevokeApiKey => json!({"200": json_of("The key as it is now", reference("ApiKey"))}),
        Endpoint::Health => json!({"200": json_of("It runs", object)}),
        Endpoint::OpenApi => json!({"200": json_of("This document", object)}),
    };
    for class in ["4XX", "5XX"] {
        all[class] = json!({"$ref": "#/components/responses/problem"});
    }
    all
}

fn all_schemas() -> Value {
    let mut all = schemas();
    for more in [schemas_of_searches(), schemas_of_exports()] {
        if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
            all.extend(more);
        }
    }
    all
}

/// What answers say of how far they searched, and counts.
fn schemas_of_searches() -> Value {
    let text = json!({"type": "string"});
    let time = json!({"type": "string", "format": "date-time"});
    let optional_time = json!({"type": ["string", "null"], "format": "date-time"});
    let count = json!({"type": "integer", "minimum": 0});
    json!({
        "Searched": {
            "type": "object",
            "description": "Which occurred times an answer speaks of.",
            "required": ["from", "to", "complete"],
            "properties": {
                "from": time,
                "to": time,
                "complete": {"type": "boolean", "description":
                    "Whether nothing asked for can be missing: false if the search was cut short (a page has a \
                     `next_cursor` then; counts are exact from `from` on), where files of the archive have expired, and \
                     while acknowledged events wait in a queue"},
            },
        },
        "Watermarks": {
            "type": "object",
            "required": ["accepted", "sealed", "archived", "verified"],
            "properties": {
                "accepted": time,
                "sealed": optional_time,
                "archived": optional_time,
                "verified": optional_time,
            },
        },
        "Facet": {
            "type": "object",
            "required": ["field", "values", "other", "missing", "total", "distinct", "searched", "watermarks"],
            "properties": {
                "field": {"type": "string", "enum": FACETS.map(|(name, _)| name)},
                "values": {"type": "array", "items": {
                    "type": "object",
                    "required": ["value", "count"],
                    "properties": {"value": text, "count": count},
                }},
                "other": {"type": "integer", "minimum": 0, "description": "Events with another value"},
                "missing": {"type": "integer", "minimum": 0, "description": "Events without one"},
                "total": count,
                "distinct": {"type": "integer", "minimum": 0, "description": "Different values"},
                "searched": reference("Searched"),
                "watermarks": reference("Watermarks"),
            },
        },
        "Stats": {
            "type": "object",
            "required": ["interval", "buckets", "total", "searched", "watermarks"],
            "properties": {
                "interval": {"type": "string", "enum": ["hour", "day", "month"]},
                "group_by": {"type": "string", "enum": FACETS.map(|(name, _)| name)},
                "buckets": {"type": "array", "items": {
                    "type": "object",
                    "required": ["start", "count"],
                    "properties": {
                        "start": time,
                        "count": count,
                        "groups": {"type": "object", "additionalProperties": count, "description":
                            "By value, of those that are most frequent over all steps"},
                        "other": {"type": "integer", "minimum": 0, "description": "Events with another value"},
                        "missing": {"type": "integer", "minimum": 0, "description": "Events without one"},
                    },
                }},
                "total": count,
                "searched": reference("Searched"),
                "watermarks": reference("Watermarks"),
            },
        },
    })
}

fn schemas_of_exports() -> Value {
    let text = json!({"type": "string"});
    let time = json!({"type": "string", "format": "date-time"});
    let optional_time = json!({"type": ["string", "null"], "format": "date-time"});
    let count = json!({"type": "integer", "minimum": 0});
    let formats: Vec<_> = Format::ALL.iter().map(|format| format.as_str()).collect();
    let formats = json!({"type": "string", "enum": formats});
    json!({
        "NewExport": {
            "type": "object",
            "required": ["format"],
            "additionalProperties": false,
            "properties": {
                "tenant_id": {"type": ["string", "null"], "description": "A key bound to one implies it"},
                "format": formats,
                "filter": {
                    "type": ["object", "null"],
                    "description": "The filters of `GET /v1/events` by their names, each a text or a list of texts",
                    "additionalProperties": {"oneOf": [text, {"type": "array", "items": text, "minItems": 1}]},
                },
                "covering": {"type": ["boolean", "null"], "description":
                    "Of evidence: also the events in between, so that it can be seen that none was left out"},
                "since": {
                    "description": "Where it begins: `last` is where the last finished export of the same filter and format \
                                    ended, a number is a leaf index; without it, the beginning of the log",
                    "oneOf": [{"const": "last"}, count, {"type": "null"}],
                },
            },
        },
        "Export": {
            "type": "object",
            "required": ["id", "tenant_id", "state", "format", "filter", "since", "first", "tree_size", "watermarks",
                         "created_at", "created_by", "finished_at", "progress", "file", "error"],
            "properties": {
                "id": {"type": "string", "pattern": "^exp_"},
                "tenant_id": text,
                "state": {"type": "string", "enum": ["queued", "running", "done", "failed"]},
                "format": formats,
                "filter": {"type": "object", "additionalProperties": {"type": "array", "items": text}},
                "covering": {"type": "boolean"},
                "since": {"oneOf": [{"const": "last"}, count, {"type": "null"}]},
                "first": {"type": "integer", "minimum": 0, "description": "Leaf index it begins at"},
                "tree_size": {"type": "integer", "minimum": 0, "description":
                    "It covers the sealed events below this tree size, which was the log's when it was asked for"},
                "watermarks": {
                    "type": "object",
                    "required": ["accepted", "sealed"],
                    "properties": {"accepted": time, "sealed": optional_time},
                },
                "created_at": time,
                "created_by": {"type": "string", "description": "The id of the API key"},
                "finished_at": optional_time,
                "progress": {
                    "type": "object",
                    "required": ["done", "leaves"],
                    "properties": {"done": count, "leaves": count},
                },
                "file": {
                    "type": ["object", "null"],
                    "required": ["bytes", "sha256", "events", "first", "end", "expired", "kept_until", "url",
                                 "url_expires_at"],
                    "properties": {
                        "bytes": count,
                        "sha256": text,
                        "events": {"type": "integer", "minimum": 0, "description": "Events in it"},
                        "first": count,
                        "end": {"type": "integer", "minimum": 0, "description":
                            "The tree size it ends at: where the next export goes on"},
                        "expired": {"type": "integer", "minimum": 0, "description": "Leaves in between that had expired"},
                        "kept_until": time,
                        "url": {"type": ["string", "null"], "description":
                            "Where it is. A path of this server's needs the same key; `null` once it is gone"},
                        "url_expires_at": optional_time,
                    },
                },
                "error": {
                    "type": ["object", "null"],
                    "required": ["code", "detail"],
                    "properties": {"code": text, "detail": text},
                },
            },
        },
    })
}

fn schemas() -> Value {
    let text = json!({"type": "string"});
    let time = json!({"type": "string", "format": "date-time"});
    let optional_time = json!({"type": ["string", "null"], "format": "date-time"});
    let count = json!({"type": "integer", "minimum": 0});
    let scopes: Vec<_> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
    let scopes = json!({"type": "array", "items": {"type": "string", "enum": scopes}, "minItems": 1});
    let codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    let class = json!({"type": "integer", "enum": limits::CLASSES_DAYS});
    let hot_days =
        json!({"type": "integer", "minimum": limits::HOT_DAYS_MIN, "maximum": limits::HOT_DAYS_MAX});
    let retained = json!({
        "type": "object",
        "required": ["class_days", "hot_days"],
        "properties": {"class_days": class, "hot_days": hot_days},
    });
    let usd = json!({"type": "number", "minimum": 0});
    let receipt = json!({
        "type": "object",
        "required": ["leaf_hash", "received_at", "note"],
        "properties": {"leaf_hash": text, "received_at": time, "note": {
            "type": "string",
            "description": "The signed promise that the event will be in the log (c2sp.org/signed-note)",
        }},
    });
    let mut all = json!({
        "Actor": {
            "type": "object",
            "required": ["id"],
            "properties": {
                "type": {"type": "string", "default": "user", "enum": [
                    "user", "api_key", "service", "system", "ai_agent", "support", "anonymous",
                ]},
                "id": {"type": "string", "minLength": 1, "maxLength": limits::ID_BYTES_MAX},
                "name": text,
                "email": text,
            },
        },
        "Resource": {
            "type": "object",
            "properties": {"type": text, "id": text, "name": text},
        },
        "Event": {
            "type": "object",
            "description": "Other fields are kept under `extra`; common other names of fields are understood.",
            "properties": {
                "id": {"type": "string", "description": "A UUIDv7, with or without `evt_`, or any id of yours"},
                "tenant_id": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"},
                "occurred_at": time,
                "actor": reference("Actor"),
                "on_behalf_of": {"type": "array", "items": {"type": "object"}},
                "action": {"type": "string", "examples": ["invoice.deleted"]},
                "outcome": {"type": "string", "enum": ["success", "failure", "denied"], "default": "success"},
                "reason": text,
                "resource": reference("Resource"),
                "related": {"type": "array", "items": reference("Resource")},
                "changes": {"description": "A list of `{path, before, after}`, or an object by field"},
                "context": {"type": "object"},
                "description": text,
                "metadata": {"type": "object"},
            },
        },
        "Record": {
            "type": "object",
            "description": "An accepted event: its leaf's members, and what the server adds on reads.",
            "required": ["id", "tenant_id", "organization_id", "occurred_at", "timestamp", "received_at", "key_id",
                         "action", "actor", "integrity"],
            "properties": {
                "v": {"const": 1},
                "id": {"type": "string", "pattern": "^evt_"},
                "tenant_id": text,
                "organization_id": text,
                "external_id": text,
                "occurred_at": time,
                "timestamp": time,
                "received_at": time,
                "key_id": text,
                "action": text,
                "outcome": text,
                "actor": {"type": "object", "required": ["id"]},
                "resource": {"type": "object"},
                "integrity": reference("Integrity"),
            },
        },
        "Integrity": {
            "type": "object",
            "required": ["state", "leaf_hash"],
            "properties": {
                "state": {"type": "string", "enum": ["recorded", "sealed", "archived"]},
                "leaf_hash": {"type": "string", "description": "SHA-256(0x00 ‖ leaf), RFC 6962, hexadecimal"},
                "leaf_index": count,
                "tree_size": count,
            },
        },
        "Accepted": {
            "type": "object",
            "required": ["success", "id", "event", "receipt", "warnings"],
            "properties": {
                "success": {"const": true},
                "id": text,
                "event": reference("Record"),
                "receipt": receipt,
                "warnings": {"type": "array", "items": reference("Place")},
            },
        },
        "Valid": {
            "type": "object",
            "required": ["valid", "event", "warnings"],
            "properties": {
                "valid": {"const": true},
                "event": reference("Record"),
                "warnings": {"type": "array", "items": reference("Place")},
            },
        },
        "Queued": {
            "type": "object",
            "required": ["success", "id"],
            "properties": {"success": {"const": true}, "id": text},
        },
        "BatchResult": {
            "type": "object",
            "required": ["accepted", "replayed", "queued", "rejected", "results"],
            "properties": {
                "accepted": count,
                "replayed": count,
                "queued": count,
                "rejected": count,
                "results": {"type": "array", "items": {
                    "type": "object",
                    "required": ["index", "status"],
                    "properties": {
                        "index": count,
                        "status": {"type": "integer"},
                        "id": text,
                        "receipt": receipt,
                        "error": {"type": "object"},
                    },
                }},
            },
        },
        "Page": {
            "type": "object",
            "required": ["events", "next_cursor", "searched", "watermarks"],
            "properties": {
                "events": {"type": "array", "items": reference("Record")},
                "next_cursor": {"type": ["string", "null"], "description": "`null` at the end"},
                "total": {"type": "integer", "minimum": 0, "maximum": limits::TOTAL_EXACT_MAX},
                "total_is": {"type": "string", "enum": ["exact", "at_least"]},
                "limit": count,
                "offset": count,
                "searched": reference("Searched"),
                "watermarks": reference("Watermarks"),
            },
        },
        "Refusals": {
            "type": "object",
            "required": ["refused", "next_cursor"],
            "properties": {
                "refused": {"type": "array", "items": {
                    "type": "object",
                    "required": ["id", "refused_at", "code", "detail", "errors", "event"],
                    "properties": {
                        "id": {"type": "string", "description": "When the message was sent, and which it was"},
                        "event_id": text,
                        "refused_at": time,
                        "code": {"type": "string", "enum": codes},
                        "detail": text,
                        "errors": {"type": "array", "items": reference("Place")},
                        "event": {"type": "string", "description": "The event as it was sent or queued"},
                    },
                }},
                "next_cursor": {"type": ["string", "null"], "description": "`null` at the end"},
            },
        },
        "Usage": {
            "type": "object",
            "required": ["plan", "events_this_month", "events_limit", "retention_days", "hot_days", "tree_size",
                         "as_of"],
            "properties": {
                "plan": text,
                "events_this_month": count,
                "events_limit": {"type": ["integer", "null"]},
                "retention_days": count,
                "hot_days": count,
                "tree_size": count,
                "as_of": time,
            },
        },
        "Retention": {
            "type": "object",
            "description": "Without a tenant: what new tenants get, which is the first four members alone.",
            "required": ["tenant_id", "class_days", "hot_days", "classes_days"],
            "properties": {
                "tenant_id": {"type": ["string", "null"]},
                "class_days": class,
                "hot_days": hot_days,
                "classes_days": {"type": "array", "items": class, "description": "All classes there are"},
                "archive": {
                    "type": "object",
                    "required": ["files", "events", "bytes", "earliest_expiry", "latest_expiry"],
                    "properties": {
                        "files": count, "events": count, "bytes": count,
                        "earliest_expiry": optional_time, "latest_expiry": optional_time,
                    },
                },
                "by_class": {"type": "array", "items": {
                    "type": "object",
                    "required": ["class_days", "files", "events", "bytes"],
                    "properties": {"class_days": class, "files": count, "events": count, "bytes": count},
                }},
                "legal_holds_open": count,
                "enforcement": {
                    "type": "object",
                    "description": "The pass that holds every locked object against policy",
                    "required": ["complete", "checked", "extended", "objects"],
                    "properties": {
                        "complete": {"type": "boolean"},
                        "checked": count, "extended": count, "objects": count,
                    },
                },
            },
        },
        "NewRetention": {
            "type": "object",
            "additionalProperties": false,
            "minProperties": 1,
            "properties": {
                "class_days": class,
                "hot_days": hot_days,
                "applies_to": {"type": "string", "enum": ["all", "new"], "description":
                    "`all` lengthens what is locked already, which is the default of a longer class; `new` is what is \
                     archived from now on"},
            },
        },
        "RetentionChange": {
            "type": "object",
            "required": ["tenant_id", "before", "after", "preview", "effect", "cannot_be_undone"],
            "properties": {
                "tenant_id": {"type": ["string", "null"]},
                "before": retained,
                "after": retained,
                "preview": {"type": "boolean", "description": "Whether nothing was changed"},
                "effect": {
                    "type": "object",
                    "required": ["applies_to", "locks_lengthened", "until", "storage_usd_per_month_added",
                                 "requests_usd", "estimate"],
                    "properties": {
                        "applies_to": {"type": "string", "enum": ["all", "new"]},
                        "locks_lengthened": {
                            "type": "object",
                            "required": ["files", "events", "bytes"],
                            "properties": {"files": count, "events": count, "bytes": count},
                        },
                        "until": optional_time,
                        "storage_usd_per_month_added": usd,
                        "requests_usd": usd,
                        "estimate": {"type": "string", "description": "What the amounts rest on"},
                    },
                },
                "cannot_be_undone": {"type": "array", "items": text},
            },
        },
        "NewLegalHold": {
            "type": "object",
            "required": ["reason"],
            "additionalProperties": false,
            "properties": {
                "tenant_id": {"type": ["string", "null"], "description": "A key bound to one implies it"},
                "from": {"type": ["string", "null"], "description":
                    "First time, included: RFC 3339 with an offset, or a UTC day; `null` is from the beginning"},
                "to": {"type": ["string", "null"], "description":
                    "Last time, excluded; `null` is without end, and covers what is still to come"},
                "reason": {"type": "string", "minLength": 1, "maxLength": limits::HOLD_REASON_BYTES_MAX},
            },
        },
        "LegalHold": {
            "type": "object",
            "required": ["id", "tenant_id", "from", "to", "reason", "placed_at", "placed_by", "released_at",
                         "released_by", "state", "progress"],
            "properties": {
                "id": {"type": "string", "pattern": "^hold_"},
                "tenant_id": text,
                "from": optional_time,
                "to": optional_time,
                "reason": text,
                "placed_at": time,
                "placed_by": {"type": "string", "description": "The id of the API key"},
                "released_at": optional_time,
                "released_by": {"type": ["string", "null"]},
                "state": {"type": "string", "enum": ["applying", "in_force", "releasing", "released"],
                          "description": "`in_force`: on every object it covers; `released`: off all of them"},
                "progress": {
                    "type": "object",
                    "description": "Of the pass that holds every locked object against policy",
                    "required": ["checked", "objects"],
                    "properties": {"checked": count, "objects": count},
                },
            },
        },
        "LogKey": {
            "type": "object",
            "required": ["vkey", "name", "algorithm", "purpose"],
            "properties": {
                "vkey": {"type": "string", "description": "As in C2SP signed-note"},
                "name": text,
                "algorithm": text,
                "purpose": text,
                "from_size": {"type": "integer", "minimum": 0, "description": "The first tree size it signs"},
                "until_size": {"type": "integer", "minimum": 0, "description": "The first it signs no more"},
            },
        },
        "EventProof": {
            "type": "object",
            "required": ["id", "leaf_index", "tree_size", "leaf_hash", "path", "checkpoint"],
            "properties": {
                "id": text,
                "leaf_index": count,
                "tree_size": count,
                "leaf_hash": {"type": "string", "description": "SHA-256(0x00 ‖ leaf), in base64"},
                "leaf": {"type": "string", "description": "The leaf, byte for byte, for a key that may read events"},
                "path": {"type": "array", "items": text, "description": "RFC 6962's audit path, in base64"},
                "checkpoint": text,
            },
        },
        "NewApiKey": {
            "type": "object",
            "required": ["scopes"],
            "additionalProperties": false,
            "properties": {
                "tenant_id": {"type": ["string", "null"], "description": "`null`: any tenant"},
                "scopes": scopes,
                "name": {"type": ["string", "null"], "maxLength": 100},
            },
        },
        "ApiKey": {
            "type": "object",
            "required": ["key_id", "tenant_id", "scopes", "name", "created_at", "revoked_at"],
            "properties": {
                "key": {"type": "string", "description": "The key itself; only where it is made"},
                "key_id": text,
                "tenant_id": {"type": ["string", "null"]},
                "scopes": scopes,
                "name": text,
                "created_at": time,
                "revoked_at": optional_time,
            },
        },
        "Place": {
            "type": "object",
            "required": ["pointer", "code", "detail"],
            "properties": {"pointer": text, "code": text, "detail": text, "suggestion": text, "position": {
                "type": "object",
                "description": "Where in a filter: bytes before it; and its character, from 1",
                "required": ["offset", "column"],
                "properties": {"offset": count, "column": {"type": "integer", "minimum": 1}},
            }},
        },
        "Problem": {
            "type": "object",
            "required": ["type", "title", "status", "detail", "code", "request_id", "retryable", "errors", "error"],
            "properties": {
                "type": {"type": "string", "format": "uri"},
                "title": text,
                "status": {"type": "integer", "minimum": 400, "maximum": 599},
                "detail": text,
                "code": {"type": "string", "enum": codes},
                "request_id": text,
                "retryable": {"type": "boolean"},
                "errors": {"type": "array", "items": reference("Place")},
                "error": {"type": "string", "description": "All of it in one line"},
            },
        },
    });
    if let (Value::Object(all), Value::Object(more)) = (&mut all, poll_schemas()) {
        all.extend(more);
    }
    all
}

/// What feed, tail and explained filters look like.
fn poll_schemas() -> Value {
    let text = json!({"type": "string"});
    let time = json!({"type": "string", "format": "date-time"});
    let optional_time = json!({"type": ["string", "null"], "format": "date-time"});
    let count = json!({"type": "integer", "minimum": 0});
    let sql = json!({
        "type": "object",
        "required": ["sql", "parameters"],
        "properties": {"sql": text, "parameters": {"type": "array", "items": text}},
    });
    json!({
        "Watermarks": {
            "type": "object",
            "required": ["accepted", "sealed", "archived", "verified"],
            "properties": {
                "accepted": time,
                "sealed": optional_time,
                "archived": optional_time,
                "verified": optional_time,
            },
        },
        "FeedPage": {
            "type": "object",
            "required": ["events", "next_after", "tree_size", "caught_up", "expired", "watermarks"],
            "properties": {
                "events": {"type": "array", "items": reference("Record")},
                "next_after": {"type": ["integer", "null"], "minimum": 0, "description":
                    "The next `after`: up to this leaf all was looked at; `null` before the first leaf"},
                "tree_size": count,
                "caught_up": {"type": "boolean", "description": "Whether there were no more leaves"},
                "expired": {"type": ["object", "null"], "description":
                    "Leaves before the events of this answer that are gone, their retention being over",
                    "required": ["from", "to"], "properties": {"from": count, "to": count}},
                "watermarks": reference("Watermarks"),
            },
        },
        "TailPage": {
            "type": "object",
            "required": ["events", "next_since", "caught_up", "complete", "watermarks"],
            "properties": {
                "events": {"type": "array", "items": reference("Record")},
                "next_since": {"type": "string", "description": "The next `since`"},
                "caught_up": {"type": "boolean", "description": "Whether there was nothing more"},
                "complete": {"type": "boolean", "description":
                    "False if more is received than a tail looks at, so that events may be missing: the feed has them all"},
                "watermarks": reference("Watermarks"),
            },
        },
        "ParsedFilter": {
            "type": "object",
            "required": ["canonical", "ast", "plan", "athena", "duckdb"],
            "properties": {
                "canonical": {"type": "string", "description": "The same filter, always written alike"},
                "ast": {"type": "object", "description": "`all`, `any`, `not`, or a condition"},
                "plan": {"type": "object", "description": "Times, index, columns, and whether events are read for it"},
                "athena": sql, "duckdb": sql,
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const COPY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");

    /// `STELE_BLESS=1 cargo test -p stele openapi` writes the copy anew.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test reads and writes the copy")]
    fn the_copy_beside_the_sources_is_what_the_code_says() {
        if std::env::var("STELE_BLESS").is_ok_and(|bless| bless == "1") {
            std::fs::write(COPY, document()).unwrap();
        }
        let copy: Value = serde_json::from_slice(&std::fs::read(COPY).unwrap()).unwrap();
        // As values: another crate of a build may have told the JSON library to keep another order of members.
        assert!(copy == value(), "`{COPY}` is out of date: run this test with STELE_BLESS=1");
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_parameter_is_described() {
        fn walk(value: &Value, visit: &mut impl FnMut(&Map<String, Value>)) {
            match value {
                Value::Object(members) => {
                    visit(members);
                    members.values().for_each(|member| walk(member, visit));
                }
                Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
                _ => {}
            }
        }
        let document = value();
        let mut references = 0;
        walk(&document, &mut |members| {
            if let Some(Value::String(target)) = members.get("$ref") {
                references += 1;
                assert!(document.pointer(&target[1..]).is_some(), "{target}");
            }
            assert_ne!(members.get("description"), Some(&json!("")), "{members:?}");
        });
        assert!(references > ROUTES.len());
        for route in ROUTES {
            let method = route.method.as_str().to_ascii_lowercase();
            assert!(
                document["paths"][route.template.replace('+', "")][method].is_object(),
                "{}",
                route.template
            );
        }
    }
}
