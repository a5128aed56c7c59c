//! The POP's own guests over restarts: what was exchanged is found again, verified anew, or not at all and told.

use obsidian_edge::EdgeHandle;
use obsidian_guests as guests;
use obsidian_registry::{Artifact, Verified};
use obsidian_types::limits::MAX_GUEST_FAULTS;
use serde_json::{Value, json};

use super::administration::ask;
use super::site::Site;
use crate::http::{chat, get};
use crate::signing::release;
use crate::support::{self, Pop, hostile_drafter};

/// Uploads another release of a guest, signed by the trusted key, and asks for it to be put in its place.
async fn swap(site: &Site, guest: &Verified<Artifact>, version: &str, allow_older: bool) -> (u16, Value) {
    let component = release(guest, version).bytes.to_vec();
    let signature = site.sign(&component, &guest.name, version, "");
    let socket = site.path("admin.sock");
    assert_eq!(ask(&socket, &format!("PUT /v1/artifacts/{}", signature.digest), &component).await.0, 200);
    let envelope: Value = serde_json::from_str(&signature.envelope.to_json()).unwrap();
    let body = json!({ "digest": signature.digest, "envelope": envelope, "allow_older": allow_older });
    ask(&socket, &format!("POST /v1/guests/{}", guest.name), body.to_string().as_bytes()).await
}

/// Versions that serve and stand ready, and what the administration says about the restart.
async fn told(site: &Site, guest: &str) -> (String, Option<String>, Option<String>) {
    let (status, told) = ask(&site.path("admin.sock"), &format!("GET /v1/guests/{guest}"), b"").await;
    assert_eq!(status, 200);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let guest = &told["guest"];
    (text(&guest["current"]["version"]).unwrap(), text(&guest["previous"]["version"]), text(&guest["not_restored"]))
}

async fn again(site: &Site, pop: EdgeHandle) -> EdgeHandle {
    pop.shutdown().await;
    site.pop().await.0
}

/// The metrics of all POPs of this process.
async fn refused_restores(pop: &EdgeHandle, guest: &str) -> u64 {
    let metrics = String::from_utf8(get(pop.local_addr(), "/metrics").await.body).unwrap();
    let line = format!("obsidian_guest_restores_total{{guest=\"{guest}\",outcome=\"refused\"}} ");
    metrics.lines().find_map(|metric| metric.strip_prefix(&line)?.parse().ok()).unwrap_or(0)
}

fn versions(current: &str, previous: Option<&str>) -> (String, Option<String>, Option<String>) {
    (current.to_owned(), previous.map(str::to_owned), None)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_exchanged_or_taken_back_is_found_again() {
    let site = Site::new();
    let (pop, _) = site.pop().await;
    let (shield, drafter) = (guests::shield().unwrap(), guests::drafter().unwrap());
    let shipped = shield.version.clone();
    assert_eq!(swap(&site, &shield, "2.0.0", false).await.0, 200);
    assert_eq!(swap(&site, &drafter, "2.0.0", false).await.0, 200);
    let pop = again(&site, pop).await;
    assert_eq!(told(&site, "shield").await, versions("2.0.0", Some(&shipped)));
    assert_eq!(told(&site, "drafter").await, versions("2.0.0", Some(&drafter.version)));
    assert_eq!(told(&site, "router").await, versions(&guests::router().unwrap().version, None));
    assert_eq!(chat(pop.local_addr(), &support::ask("edge", "hello")).await.status, 200);
    // The way back is remembered, and so is what it could go forward to.
    assert_eq!(swap(&site, &shield, "3.0.0", false).await.0, 200);
    assert_eq!(ask(&site.path("admin.sock"), "POST /v1/guests/shield/rollback", b"").await.0, 200);
    let pop = again(&site, pop).await;
    assert_eq!(told(&site, "shield").await, versions("2.0.0", Some("3.0.0")));
    assert_eq!(ask(&site.path("admin.sock"), "POST /v1/guests/drafter/rollback", b"").await.0, 200);
    let pop = again(&site, pop).await;
    assert_eq!(told(&site, "drafter").await, versions(&drafter.version, Some("2.0.0")));
    // Versions only go up, unless it is meant; and that is remembered like any other.
    let (status, refusal) = swap(&site, &shield, "1.9.0", false).await;
    assert_eq!((status, &refusal["error"]["code"]), (403, &json!("refused")), "{refusal}");
    assert_eq!(swap(&site, &shield, "1.9.0", true).await.0, 200);
    let pop = again(&site, pop).await;
    assert_eq!(told(&site, "shield").await, versions("1.9.0", Some("2.0.0")));
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_revoked_meanwhile_does_not_come_back() {
    let site = Site::new();
    let (pop, _) = site.pop().await;
    let router = guests::router().unwrap();
    for version in ["2.0.0", "3.0.0"] {
        assert_eq!(swap(&site, &router, version, false).await.0, 200);
    }
    site.trust("[revoked]\nreleases = [\"router@3.0.0\"]\n");
    let refused = refused_restores(&pop, "router").await;
    let pop = again(&site, pop).await;
    let (current, previous, reason) = told(&site, "router").await;
    assert_eq!((&current, previous.as_deref()), (&router.version, Some("2.0.0")), "nobody chose 2.0.0 to serve");
    assert!(reason.as_ref().is_some_and(|reason| reason.contains("router 3.0.0 was revoked")), "{reason:?}");
    assert_eq!(refused_restores(&pop, "router").await, refused + 1);
    assert_eq!(chat(pop.local_addr(), &support::ask("edge", "hello")).await.status, 200);
    // The record stays, so a policy that is put right helps at the next start.
    site.trust("");
    let pop = again(&site, pop).await;
    assert_eq!(told(&site, "router").await, versions("3.0.0", Some("2.0.0")));
    // What is ready is not gone back to once it was revoked.
    site.trust("[revoked]\nreleases = [\"router@2.0.0\"]\n");
    let (status, refusal) = ask(&site.path("admin.sock"), "POST /v1/guests/router/rollback", b"").await;
    assert_eq!((status, &refusal["error"]["code"]), (403, &json!("refused")), "{refusal}");
    assert_eq!(told(&site, "router").await, versions("3.0.0", Some("2.0.0")));
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_lead_to_the_guest_inside_the_binary() {
    let site = Site::new();
    let (pop, _) = site.pop().await;
    let (shield, router) = (guests::shield().unwrap(), guests::router().unwrap());
    assert_eq!(swap(&site, &shield, "2.0.0", false).await.0, 200);
    assert_eq!(swap(&site, &router, "2.0.0", false).await.0, 200);
    pop.shutdown().await;
    let component = release(&shield, "2.0.0");
    let path = site.path(&format!("functions/artifacts/{}.wasm", component.digest()));
    let mut bytes = component.bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    std::fs::write(site.path("functions/guests/router.json"), "{\"current\": null").unwrap();
    let (pop, _) = site.pop().await;
    for (guest, shipped, expected) in
        [("shield", &shield.version, "the file was changed"), ("router", &router.version, "router.json")]
    {
        let (current, previous, reason) = told(&site, guest).await;
        assert_eq!((&current, previous), (shipped, None));
        assert!(reason.as_ref().is_some_and(|reason| reason.contains(expected)), "{reason:?}");
    }
    // The next exchange is a new beginning.
    assert_eq!(swap(&site, &shield, "2.0.0", false).await.0, 200);
    assert_eq!(told(&site, "shield").await, versions("2.0.0", Some(&shield.version)));
    let pop = again(&site, pop).await;
    assert_eq!(told(&site, "shield").await, versions("2.0.0", Some(&shield.version)));
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_faults_took_back_stays_back() {
    let site = Site::new();
    let start = || async { Pop::new().drafter(hostile_drafter()).functions(site.open().await).start().await };
    let pop = start().await;
    let hostile = guests::hostile_drafter().unwrap();
    let shipped = hostile.version.clone();
    let component = hostile.bytes.to_vec();
    let signature = site.sign(&component, "drafter", "2.0.0", "");
    let socket = site.path("admin.sock");
    ask(&socket, &format!("PUT /v1/artifacts/{}", signature.digest), &component).await;
    let envelope: Value = serde_json::from_str(&signature.envelope.to_json()).unwrap();
    let body = json!({ "digest": signature.digest, "envelope": envelope }).to_string();
    assert_eq!(ask(&socket, "POST /v1/guests/drafter", body.as_bytes()).await.0, 200);
    pop.shutdown().await;
    let pop = start().await;
    assert_eq!(told(&site, "drafter").await, versions("2.0.0", Some(&shipped)));
    for _ in 0..MAX_GUEST_FAULTS {
        chat(pop.local_addr(), &support::ask("edge", "trap")).await;
    }
    assert_eq!(told(&site, "drafter").await, versions(&shipped, None));
    pop.shutdown().await;
    let pop = start().await;
    assert_eq!(told(&site, "drafter").await, versions(&shipped, None));
    pop.shutdown().await;
}
