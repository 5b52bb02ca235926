//! The stand-in of the Messages API: answers `POST /v1/messages` as the prompt's script says, streaming or not.
//!
//! The script language is in the library's `messages_api`. Every request is recorded whole before it is answered.
//! Must not need any state of its own: the conversation in the request says which step comes next.

use std::sync::Arc;

use rcc_testkit::messages_api::{Step, script};
use serde_json::{Value, json};

use crate::counters::Counters;
use crate::http::{Request, Response};

/// Answers one request to the API's host.
pub(crate) fn answer(request: &Request, counters: &Arc<Counters>) -> Response {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    counters.add_message(json!({
        "method": request.head.method,
        "target": request.head.target,
        "scheme": request.head.scheme,
        "headers": request.head.headers,
        "body": body,
    }));
    let has_credentials = ["x-api-key", "authorization"]
        .iter()
        .any(|name| request.head.header(name).is_some());
    match (request.head.method.as_str(), request.path()) {
        ("POST", "/v1/messages") if !has_credentials => {
            error(401, "authentication_error", "x-api-key header is required")
        }
        ("POST", "/v1/messages") => message(&body),
        ("POST", "/v1/messages/count_tokens") => Response::json(&json!({ "input_tokens": 10 })),
        ("GET" | "HEAD", "/v1/models") => Response::json(&json!({ "data": [], "has_more": false })),
        _ => Response::json(&json!({})),
    }
}

fn error(status: u16, kind: &str, text: &str) -> Response {
    let body = json!({ "type": "error", "error": { "type": kind, "message": text } });
    Response::new(status, "application/json", body.to_string())
}

/// Gives the next message of the conversation.
fn message(body: &Value) -> Response {
    let (block, stop_reason) = next_block(body);
    let model = body["model"].as_str().unwrap_or("stand-in");
    let message = json!({
        "id": "msg_standin", "type": "message", "role": "assistant", "model": model, "content": [block],
        "stop_reason": stop_reason, "stop_sequence": null, "usage": { "input_tokens": 10, "output_tokens": 5 },
    });
    if body["stream"] == true {
        Response::stream("text/event-stream", events(&message))
    } else {
        Response::json(&message)
    }
}

/// Decides on the next content block: the script's next step, or the final text.
fn next_block(body: &Value) -> (Value, &'static str) {
    let messages = body["messages"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let tools: Vec<&str> = body["tools"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|tool| tool["name"].as_str())
        .collect();
    // The latest prompt with a script counts; results after it say how far it has come.
    let start = messages
        .iter()
        .rposition(|message| message["role"] == "user" && !script(&texts(message)).is_empty());
    let Some(start) = start.filter(|_| !tools.is_empty()) else {
        return (json!({ "type": "text", "text": "ok" }), "end_turn");
    };
    let steps = script(&texts(&messages[start]));
    let results: Vec<String> = messages[start..].iter().flat_map(tool_results).collect();
    match steps.get(results.len()) {
        Some(Step::Say(text)) => (json!({ "type": "text", "text": text }), "end_turn"),
        Some(step) => match step.tool_call(&tools) {
            Some((name, input)) => {
                let id = format!("toolu_standin_{}_{}", messages.len(), results.len());
                (
                    json!({ "type": "tool_use", "id": id, "name": name, "input": input }),
                    "tool_use",
                )
            }
            None => {
                let text = format!("NO TOOL for {step:?} among {tools:?}");
                (json!({ "type": "text", "text": text }), "end_turn")
            }
        },
        None => {
            let text: Vec<String> = results
                .iter()
                .map(|result| format!("[{}]", result.trim()))
                .collect();
            (
                json!({ "type": "text", "text": format!("FINAL{}", text.concat()) }),
                "end_turn",
            )
        }
    }
}

/// All text of a message that the user wrote.
fn texts(message: &Value) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let texts = blocks
                .iter()
                .filter(|block| block["type"] == "text")
                .filter_map(|block| block["text"].as_str());
            texts.collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

/// Results of tools in a message, as text.
fn tool_results(message: &Value) -> Vec<String> {
    let blocks = message["content"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let results = blocks
        .iter()
        .filter(|block| block["type"] == "tool_result")
        .map(|block| match &block["content"] {
            Value::String(text) => text.clone(),
            other => texts(&json!({ "content": other })),
        });
    results.collect()
}

/// Cuts a message into the events of a stream, each one chunk on the wire.
fn events(message: &Value) -> Vec<Vec<u8>> {
    let mut start = message.clone();
    start["content"] = json!([]);
    start["stop_reason"] = Value::Null;
    let mut events = vec![
        json!({ "type": "message_start", "message": start }),
        json!({ "type": "ping" }),
    ];
    for (index, block) in message["content"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let (empty, deltas) = if block["type"] == "text" {
            let pieces = pieces(block["text"].as_str().unwrap_or_default());
            let deltas: Vec<Value> = pieces
                .iter()
                .map(|part| json!({ "type": "text_delta", "text": part }))
                .collect();
            (json!({ "type": "text", "text": "" }), deltas)
        } else {
            let mut empty = block.clone();
            empty["input"] = json!({});
            let pieces = pieces(&block["input"].to_string());
            let delta = |part: &String| json!({ "type": "input_json_delta", "partial_json": part });
            (empty, pieces.iter().map(delta).collect())
        };
        events
            .push(json!({ "type": "content_block_start", "index": index, "content_block": empty }));
        let deltas = deltas.into_iter();
        events.extend(
            deltas.map(
                |delta| json!({ "type": "content_block_delta", "index": index, "delta": delta }),
            ),
        );
        events.push(json!({ "type": "content_block_stop", "index": index }));
    }
    events.push(json!({
        "type": "message_delta",
        "delta": { "stop_reason": message["stop_reason"], "stop_sequence": null },
        "usage": { "output_tokens": 5 },
    }));
    events.push(json!({ "type": "message_stop" }));
    let lines = events.iter().map(|event| {
        format!(
            "event: {}\ndata: {event}\n\n",
            event["type"].as_str().unwrap_or_default()
        )
        .into_bytes()
    });
    lines.collect()
}

/// Cuts text into pieces of at most 20 characters, as a model's words come.
fn pieces(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters
        .chunks(20)
        .map(|piece| piece.iter().collect())
        .collect()
}
