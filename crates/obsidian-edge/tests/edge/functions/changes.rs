//! Deploying, replacing, going back: under load, over restarts, and against those who must not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use obsidian_edge::functions::Deploy;
use obsidian_registry::Envelope;

use super::site::{Site, conformance, default_tenant, hello, wanted};
use crate::http::get;

/// Callers that go on until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    callers: tokio::task::JoinSet<Vec<String>>,
}

impl Load {
    fn start(address: std::net::SocketAddr, count: usize) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..count {
            let (stop, answered) = (stop.clone(), answered.clone());
            callers.spawn(async move {
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let answer = get(address, "/fn/shop/hello").await;
                    if answer.status != 200 || answer.body != b"hello\n" {
                        failures.push(format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)));
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                failures
            });
        }
        Self { stop, answered, callers }
    }

    /// Lets so many more requests be answered.
    async fn passed(&self, count: usize) {
        let wanted = self.answered.load(Ordering::Relaxed) + count;
        while self.answered.load(Ordering::Relaxed) < wanted {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn end(mut self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        while let Some(more) = self.callers.join_next().await {
            failures.extend(more.unwrap());
        }
        (self.answered.load(Ordering::Relaxed), failures)
    }
}

/// A hello in bytes that nobody has compiled yet.
fn fresh_hello() -> Vec<u8> {
    let moment = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let (name, content) = (b"moment", moment.to_le_bytes());
    let mut component = hello();
    // A custom section at the end: identifier, length, length of the name, name, content.
    component.extend([0, (1 + name.len() + content.len()) as u8, name.len() as u8]);
    component.extend(name.iter().chain(&content));
    component
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deployed_quickly_gets_optimised_code_while_it_answers() {
    let site = Site::new();
    let (pop, functions) = site.pop().await;
    site.deploy(&functions, &hello(), "1.0.0", "").await.unwrap();
    let load = Load::start(pop.local_addr(), 4);
    load.passed(20).await;
    let component = fresh_hello();
    let signature = site.sign(&component, "shop", "2.0.0", "");
    functions.upload(signature.digest, component).await.unwrap();
    let changed = functions.deploy(Deploy { quick: true, ..wanted("default", signature) }).await.unwrap();
    assert!(changed.quick && changed.version == "2.0.0", "{changed:?}");
    while functions.view(&default_tenant(), "shop").unwrap().current.unwrap().quick {
        load.passed(1).await;
    }
    load.passed(20).await;
    let view = functions.view(&default_tenant(), "shop").unwrap();
    let (current, previous) = (view.current.unwrap(), view.previous.unwrap());
    assert_eq!((current.version.as_str(), previous.version.as_str()), ("2.0.0", "1.0.0"));
    assert!(current.answered > 0);
    // The same again finds good code.
    let again = functions.roll_back(&default_tenant(), "shop").await.unwrap();
    assert!(!again.quick && again.version == "1.0.0", "{again:?}");
    let (answered, failures) = load.end().await;
    assert!(failures.is_empty() && answered >= 60, "{answered} answered: {failures:?}");
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_replace_each_other_under_load_and_no_request_fails() {
    let site = Site::new();
    let (pop, functions) = site.pop().await;
    let address = pop.local_addr();
    site.deploy(&functions, &hello(), "1.0.0", "").await.unwrap();
    let load = Load::start(address, 4);
    load.passed(20).await;
    for turn in 1..6 {
        let component = if turn % 2 == 0 { hello() } else { conformance() };
        let changed = site.deploy(&functions, &component, &format!("1.{turn}.0"), "").await.unwrap();
        assert_eq!(changed.version, format!("1.{turn}.0"));
        load.passed(20).await;
    }
    for _ in 0..6 {
        functions.roll_back(&default_tenant(), "shop").await.unwrap();
        load.passed(20).await;
    }
    let (answered, failures) = load.end().await;
    assert!(failures.is_empty() && answered >= 240, "{answered} answered: {failures:?}");
    let view = functions.view(&default_tenant(), "shop").unwrap();
    assert_eq!(
        (view.current.unwrap().version, view.previous.unwrap().version),
        ("1.5.0".to_owned(), "1.4.0".to_owned())
    );
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deployments_and_both_versions_outlive_a_restart() {
    let site = Site::new();
    let (pop, functions) = site.pop().await;
    site.deploy(&functions, &hello(), "1.0.0", "").await.unwrap();
    site.deploy(&functions, &conformance(), "2.0.0", "").await.unwrap();
    let mut other = site.sign(&hello(), "other", "1.0.0", "");
    functions.deploy(wanted("default", other.clone())).await.unwrap();
    pop.shutdown().await;
    drop(functions);

    // One component is damaged on the disk: it does not come back, the others do.
    other = site.sign(&conformance(), "damaged", "1.0.0", "");
    let (pop, functions) = site.pop().await;
    functions.deploy(wanted("default", other)).await.unwrap();
    pop.shutdown().await;
    drop(functions);
    let record = std::fs::read_dir(site.path("functions/deployments")).unwrap().flatten().map(|entry| entry.path());
    let record = record.into_iter().find(|path| path.to_string_lossy().contains("damaged")).unwrap();
    let text = std::fs::read_to_string(&record).unwrap();
    let artifact = obsidian_registry::Digest::of(&conformance()).to_string();
    std::fs::write(&record, text.replace(&artifact, &"0".repeat(64))).unwrap();

    let (pop, functions) = site.pop().await;
    let address = pop.local_addr();
    assert_eq!(get(address, "/fn/shop/status/202").await.status, 202);
    assert_eq!(get(address, "/fn/other/").await.body, b"hello\n");
    let failed = get(address, "/fn/damaged/").await;
    assert_eq!((failed.error().0, failed.error().1.as_str()), (503, "function_failed"));
    assert_eq!(get(address, "/readyz").await.json()["parts"]["functions"]["ready"], 2);
    functions.roll_back(&default_tenant(), "shop").await.unwrap();
    assert_eq!(get(address, "/fn/shop/status/202").await.body, b"hello\n");
    functions.remove(&default_tenant(), "damaged").await.unwrap();
    assert_eq!(get(address, "/fn/damaged/").await.status, 404);
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_vouches_for_does_not_run() {
    let site = Site::new();
    let (pop, functions) = site.pop().await;
    let address = pop.local_addr();
    site.deploy(&functions, &hello(), "2.0.0", "").await.unwrap();
    let refused = async |deploy| {
        let error = functions.deploy(deploy).await.unwrap_err();
        assert_eq!(error.kind(), (403, "refused"), "{error}");
        error.to_string()
    };
    // Other bytes than those that were signed.
    let tampered = [conformance(), vec![0]].concat();
    let mut signature = site.sign(&conformance(), "shop", "3.0.0", "");
    signature.digest = obsidian_registry::Digest::of(&tampered);
    functions.upload(signature.digest, tampered).await.unwrap();
    assert!(refused(wanted("default", signature)).await.contains("was changed"));
    // A stranger's signature, an older version, other bytes under a version that ran.
    functions.upload(obsidian_registry::Digest::of(&conformance()), conformance()).await.unwrap();
    let stranger = Site::new().sign(&conformance(), "shop", "3.0.0", "");
    assert!(refused(wanted("default", stranger)).await.contains("not in the trust policy"));
    let older = site.sign(&conformance(), "shop", "1.0.0", "");
    assert!(refused(wanted("default", older.clone())).await.contains("older than 2.0.0"));
    assert!(
        refused(wanted("default", site.sign(&conformance(), "shop", "2.0.0", "")))
            .await
            .contains("needs a new version")
    );
    // The uploaded bytes must be the promised ones, and there at all.
    let wrong = functions.upload(obsidian_registry::Digest::of(b"x"), b"y".to_vec()).await.unwrap_err();
    assert_eq!(wrong.kind().1, "invalid");
    let absent = functions.deploy(wanted("default", site.sign(b"absent", "shop", "9.0.0", ""))).await.unwrap_err();
    assert_eq!(absent.kind().1, "not_found");
    // What is signed and no component.
    let nonsense = site.sign(b"\0asm nonsense", "shop", "9.0.0", "");
    functions.upload(nonsense.digest, b"\0asm nonsense".to_vec()).await.unwrap();
    assert_eq!(functions.deploy(wanted("default", nonsense)).await.unwrap_err().kind().1, "does_not_load");
    assert!(Envelope::parse(b"{}").is_err());
    assert_eq!(get(address, "/fn/shop/").await.headers["x-obsidian-module-version"], "2.0.0");

    // A step back that is meant; and a way back that was closed meanwhile.
    let mut meant = wanted("default", older);
    meant.allow_older = true;
    functions.deploy(meant).await.unwrap();
    assert_eq!(get(address, "/fn/shop/status/201").await.status, 201);
    site.trust(&format!("[revoked]\nmodules = [\"{}\"]\n", obsidian_registry::Digest::of(&hello())));
    let error = functions.roll_back(&default_tenant(), "shop").await.unwrap_err();
    assert!(error.kind().1 == "refused" && error.to_string().contains("was revoked"), "{error}");
    assert_eq!(get(address, "/fn/shop/status/201").await.status, 201);
    pop.shutdown().await;
}
