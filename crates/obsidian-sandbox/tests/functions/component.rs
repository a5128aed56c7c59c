//! Functions written in WebAssembly text: a core module that computes 1, and around it the component that answers 200
//! if it does and traps if it does not.

use obsidian_registry::{Artifact, Verified};

use crate::fixture::artifact;

/// The part of `wasi:http/types` that an answer without body needs. Declared here once more because a component states
/// the types of what it imports.
const TYPES: &str = r#"
(import "wasi:http/types@0.2.0" (instance $http
  (export "fields" (type $fields (sub resource)))
  (export "incoming-request" (type $request (sub resource)))
  (export "outgoing-response" (type $response (sub resource)))
  (export "response-outparam" (type $outparam (sub resource)))
  (type $text (option string))
  (type $dns-payload' (record (field "rcode" $text) (field "info-code" (option u16))))
  (export "DNS-error-payload" (type $dns-payload (eq $dns-payload')))
  (type $alert-payload' (record (field "alert-id" (option u8)) (field "alert-message" $text)))
  (export "TLS-alert-received-payload" (type $alert-payload (eq $alert-payload')))
  (type $size-payload' (record (field "field-name" $text) (field "field-size" (option u32))))
  (export "field-size-payload" (type $size-payload (eq $size-payload')))
  (type $error-code' (variant
    (case "DNS-timeout") (case "DNS-error" $dns-payload) (case "destination-not-found")
    (case "destination-unavailable") (case "destination-IP-prohibited") (case "destination-IP-unroutable")
    (case "connection-refused") (case "connection-terminated") (case "connection-timeout")
    (case "connection-read-timeout") (case "connection-write-timeout") (case "connection-limit-reached")
    (case "TLS-protocol-error") (case "TLS-certificate-error") (case "TLS-alert-received" $alert-payload)
    (case "HTTP-request-denied") (case "HTTP-request-length-required") (case "HTTP-request-body-size" (option u64))
    (case "HTTP-request-method-invalid") (case "HTTP-request-URI-invalid") (case "HTTP-request-URI-too-long")
    (case "HTTP-request-header-section-size" (option u32))
    (case "HTTP-request-header-size" (option $size-payload))
    (case "HTTP-request-trailer-section-size" (option u32)) (case "HTTP-request-trailer-size" $size-payload)
    (case "HTTP-response-incomplete") (case "HTTP-response-header-section-size" (option u32))
    (case "HTTP-response-header-size" $size-payload) (case "HTTP-response-body-size" (option u64))
    (case "HTTP-response-trailer-section-size" (option u32)) (case "HTTP-response-trailer-size" $size-payload)
    (case "HTTP-response-transfer-coding" $text) (case "HTTP-response-content-coding" $text)
    (case "HTTP-response-timeout") (case "HTTP-upgrade-failed") (case "HTTP-protocol-error")
    (case "loop-detected") (case "configuration-error") (case "internal-error" $text)))
  (export "error-code" (type $error-code (eq $error-code')))
  (export "[constructor]fields" (func (result (own $fields))))
  (export "[constructor]outgoing-response" (func (param "headers" (own $fields)) (result (own $response))))
  (export "[static]response-outparam.set" (func
    (param "param" (own $outparam)) (param "response" (result (own $response) (error $error-code)))))))
(alias export $http "incoming-request" (type $request))
(alias export $http "response-outparam" (type $outparam))
"#;

/// Lowers what is imported, runs the module, answers.
const GLUE: &str = r#"
(core module $memory (memory (export "memory") 1))
(core instance $memory (instantiate $memory))
(alias core export $memory "memory" (core memory $strings))
(core func $fields (canon lower (func $http "[constructor]fields")))
(core func $response (canon lower (func $http "[constructor]outgoing-response")))
(core func $set (canon lower (func $http "[static]response-outparam.set") (memory $strings)))
(core module $glue
  (import "subject" "run" (func $run (result i32)))
  (import "http" "fields" (func $fields (result i32)))
  (import "http" "response" (func $response (param i32) (result i32)))
  (import "http" "set" (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
  (func (export "handle") (param $request i32) (param $outparam i32)
    (if (i32.ne (call $run) (i32.const 1)) (then unreachable))
    (call $set (local.get $outparam) (i32.const 0) (call $response (call $fields))
      (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))))
(core instance $subject (instantiate $subject))
(core instance $glue (instantiate $glue
  (with "subject" (instance $subject))
  (with "http" (instance
    (export "fields" (func $fields)) (export "response" (func $response)) (export "set" (func $set))))))
(func $handle (param "request" (own $request)) (param "response-out" (own $outparam))
  (canon lift (core func $glue "handle")))
(instance $handler (export "handle" (func $handle)))
(export "wasi:http/incoming-handler@0.2.0" (instance $handler))
"#;

/// A function around a core module, given without its own parentheses, that exports `run` and computes 1.
pub(crate) fn function(name: &str, module: &str) -> Verified<Artifact> {
    let text = format!("(component\n{TYPES}\n(core module $subject\n{module})\n{GLUE})");
    match wat::parse_str(&text) {
        Ok(bytes) => artifact(name, bytes),
        Err(error) => panic!("{name}: {error}"),
    }
}
