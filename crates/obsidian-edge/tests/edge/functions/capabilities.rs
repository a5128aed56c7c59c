//! What functions may use: grants, stores, the network, logs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use obsidian_edge::functions::{EnvironmentValue, Grant, Granted};
use obsidian_types::TenantId;
use obsidian_wire::outbound::Resolver;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::site::{Site, conformance, default_tenant, wanted};
use crate::http::{Call, get};

async fn fetch(address: SocketAddr, url: &str) -> (u16, String) {
    let head = format!("GET /fn/shop/outbound HTTP/1.0\r\nx-url: {url}");
    let answer = Call::send(address, &head, b"").await.answer().await;
    (answer.status, String::from_utf8(answer.body).unwrap())
}

/// Answers every connection with `inside`.
async fn inside() -> (SocketAddr, Arc<AtomicUsize>, tokio::task::JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let mut serving = tokio::task::JoinSet::new();
    let seen = count.clone();
    serving.spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            seen.fetch_add(1, Ordering::SeqCst);
            let mut head = vec![0; 4096];
            let _ = socket.read(&mut head).await;
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\ninside").await;
        }
    });
    (address, count, serving)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_and_not_granted_is_named_and_denied() {
    let mut site = Site::granting(Grant {
        stores: Granted::Some(vec!["cart".to_owned()]),
        environment: [("REGION".to_owned(), EnvironmentValue::Text("eu".to_owned()))].into(),
        ..Grant::default()
    });
    site.policy.ceilings.memory_bytes = 32 << 20;
    let (pop, functions) = site.pop().await;
    let asked =
        "outbound = [\"api.example.net\"]\nstores = [\"cart\", \"users\"]\nenvironment = [\"REGION\", \"TOKEN\"]";
    let changed = site.deploy(&functions, &conformance(), "1.0.0", asked).await.unwrap();
    for denied in ["outbound api.example.net", "environment TOKEN", "store users"] {
        assert!(changed.denied.iter().any(|name| name == denied), "{denied} in {:?}", changed.denied);
    }
    assert!(changed.denied.iter().any(|name| name.starts_with("limit memory_bytes")), "{:?}", changed.denied);
    let address = pop.local_addr();
    let environment = String::from_utf8(get(address, "/fn/shop/environment").await.body).unwrap();
    assert!(environment.contains("REGION=eu") && !environment.contains("TOKEN"), "{environment}");
    assert_eq!(get(address, "/fn/shop/store/cart/get").await.status, 200);
    let denied = get(address, "/fn/shop/store/users/get").await;
    assert_ne!(denied.status, 200);
    let (status, reason) = fetch(address, "http://api.example.net/").await;
    assert_eq!(status, 502, "{reason}");
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn this_machine_is_out_of_reach_unless_it_is_granted_by_name() {
    let (inside, count, _serving) = inside().await;
    let url = format!("http://{inside}/");
    let asked = format!("outbound = [\"{inside}\"]");
    // Whatever is asked for, as long as it is public.
    let site = Site::granting(Grant { outbound: Granted::All, ..Grant::default() });
    let (pop, functions) = site.pop().await;
    site.deploy(&functions, &conformance(), "1.0.0", &asked).await.unwrap();
    let (status, reason) = fetch(pop.local_addr(), &url).await;
    assert_eq!((status, count.load(Ordering::SeqCst)), (502, 0), "{reason}");
    pop.shutdown().await;
    drop(functions);

    let mut site = site;
    site.policy.grants.push(Grant { private: vec![inside.to_string().parse().unwrap()], ..Grant::default() });
    let (pop, _functions) = site.pop().await;
    assert_eq!(fetch(pop.local_addr(), &url).await, (200, "inside".to_owned()));
    pop.shutdown().await;
}

/// Leads every name to one address, as a name does that was rebound.
struct Rebinding(SocketAddr);

#[async_trait::async_trait]
impl Resolver for Rebinding {
    async fn resolve(&self, _: &str, _: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok(vec![self.0])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_rebound_leads_nowhere() {
    let (inside, count, _serving) = inside().await;
    let mut site = Site::granting(Grant { outbound: Granted::All, ..Grant::default() });
    site.resolver = Some(Arc::new(Rebinding(inside)));
    let (pop, functions) = site.pop().await;
    site.deploy(&functions, &conformance(), "1.0.0", "outbound = [\"rebind.example.net\"]").await.unwrap();
    let (status, reason) = fetch(pop.local_addr(), "http://rebind.example.net/").await;
    assert_eq!((status, count.load(Ordering::SeqCst)), (502, 0), "{reason}");
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_are_the_tenants_and_outlive_everything() {
    let site = Site::granting(Grant { stores: Granted::All, ..Grant::default() });
    let (pop, functions) = site.pop().await;
    let address = pop.local_addr();
    site.deploy(&functions, &conformance(), "1.0.0", "stores = [\"cart\"]").await.unwrap();
    let mut theirs = wanted("other", site.sign(&conformance(), "theirs", "1.0.0", "stores = [\"cart\"]"));
    theirs.public = Some(true);
    functions.deploy(theirs).await.unwrap();
    let say = |answer: crate::http::Answer| String::from_utf8(answer.body).unwrap();
    assert_eq!(say(get(address, "/fn/shop/store/cart/set?key=a&value=1").await), "set\n");
    assert_eq!(say(get(address, "/fn/shop/store/cart/increment?key=n&value=5").await), "5\n");
    assert_eq!(say(get(address, "/fn/theirs/store/cart/get?key=a").await), "none\n");
    pop.shutdown().await;
    drop(functions);
    let (pop, functions) = site.pop().await;
    let address = pop.local_addr();
    assert_eq!(say(get(address, "/fn/shop/store/cart/get?key=a").await), "some 1\n");
    functions.remove(&default_tenant(), "shop").await.unwrap();
    site.deploy(&functions, &conformance(), "1.1.0", "stores = [\"cart\"]").await.unwrap();
    assert_eq!(say(get(address, "/fn/shop/store/cart/increment?key=n&value=2").await), "7\n");
    pop.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_kept_followed_and_apart() {
    let site = Site::new();
    let (pop, functions) = site.pop().await;
    let address = pop.local_addr();
    site.deploy(&functions, &conformance(), "1.0.0", "").await.unwrap();
    assert_eq!(get(address, "/fn/shop/log?level=warn&context=cart&text=one").await.status, 200);
    get(address, "/fn/shop/print").await;
    let mut following = functions.logs(&default_tenant(), "shop", 100).unwrap();
    let kept: Vec<_> =
        following.kept.iter().map(|entry| (entry.level, entry.context.as_str(), entry.text.as_str())).collect();
    assert!(kept.contains(&("warn", "cart", "one")), "{kept:?}");
    assert!(kept.iter().any(|(_, context, text)| (*context, *text) == ("stdout", "second line")), "{kept:?}");
    get(address, "/fn/shop/log?text=two").await;
    // A line without an end is written when its instance goes, which may be after its answer.
    let mut line = following.coming.recv().await.unwrap().text.clone();
    if line == "unfinished" {
        line = following.coming.recv().await.unwrap().text.clone();
    }
    assert_eq!(line, "two");
    assert!(functions.logs(&TenantId::new("other"), "shop", 100).is_err());
    pop.shutdown().await;
}
