//! Registries that lie, babble, redirect and hand out tokens.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use obsidian_registry::oci::ModuleManifest;
use obsidian_registry::{Digest, Facts};
use obsidian_wire::oci::{Credentials, OciError, OciOptions, OciReference, OciRegistry};
use tokio::task::JoinSet;

/// What it does with a request: the path, and who asks.
type Behaviour = dyn Fn(&str, &HeaderMap) -> Response + Send + Sync;

/// A registry that behaves as told; ends when dropped.
struct Hostile {
    /// `HOST:PORT`.
    address: String,
    _tasks: JoinSet<()>,
}

/// Starts one.
async fn start(behaviour: impl Fn(&str, &HeaderMap) -> Response + Send + Sync + 'static) -> Hostile {
    let behaviour: Arc<Behaviour> = Arc::new(behaviour);
    let router = Router::new().fallback(move |request: Request| {
        let behaviour = Arc::clone(&behaviour);
        async move { behaviour(&request.uri().to_string(), request.headers()) }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    Hostile { address, _tasks: tasks }
}

fn documents() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let module = wat::parse_str("(component)").unwrap();
    let (manifest, config) = ModuleManifest::write(&module, &Facts::of(&module).unwrap()).unwrap();
    (module, manifest, config)
}

/// A registry with one module, of which `change` may replace each answer.
fn honest(path: &str) -> Response {
    let (module, manifest, config) = documents();
    let named = |bytes: &[u8]| format!("/v2/a/blobs/sha256:{}", Digest::of(bytes));
    match path {
        "/v2/a/manifests/latest" => manifest.into_response(),
        path if path == named(&config) => config.into_response(),
        path if path == named(&module) => module.into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn pull(registry: &Hostile) -> Result<Vec<u8>, OciError> {
    let reference: OciReference = format!("{}/a", registry.address).parse().unwrap();
    let registry = OciRegistry::new(&reference, OciOptions::default())?;
    registry.pull(&reference).await.map(|pulled| pulled.module)
}

#[tokio::test]
async fn an_honest_one_is_believed_as_far_as_its_digests() {
    let registry = start(|path, _| honest(path)).await;
    assert_eq!(pull(&registry).await.unwrap(), documents().0);
    let (module, ..) = documents();
    let lying = start(move |path, _| {
        if path.ends_with(&Digest::of(&module).to_string()) {
            let mut other = module.clone();
            other[7] ^= 1;
            return other.into_response();
        }
        honest(path)
    });
    let error = pull(&lying.await).await.unwrap_err();
    assert!(matches!(error, OciError::Digest { what: "module", .. }), "{error}");
}

#[tokio::test]
async fn endless_answers_are_cut() {
    for endless in ["manifests", "blobs"] {
        let registry = start(move |path, _| {
            if !path.contains(endless) {
                return honest(path);
            }
            let piece = || Ok::<_, std::io::Error>(bytes::Bytes::from(vec![b' '; 64 << 10]));
            Body::from_stream(futures::stream::repeat_with(piece)).into_response()
        });
        let error = pull(&registry.await).await.unwrap_err();
        assert!(matches!(error, OciError::TooLong { .. }), "{error}");
    }
}

#[tokio::test]
async fn redirects_are_followed_within_reason_and_errors_say_little() {
    let registry = start(|path, _| match path {
        "/v2/a/manifests/latest" => (StatusCode::TEMPORARY_REDIRECT, [("location", "/v2/b")]).into_response(),
        "/v2/b" => honest("/v2/a/manifests/latest"),
        path => honest(path),
    });
    assert!(pull(&registry.await).await.is_ok());
    let circle = start(|_, _| (StatusCode::FOUND, [("location", "/round")]).into_response()).await;
    assert!(matches!(pull(&circle).await, Err(OciError::Status { status: 302, .. })));
    let away =
        start(|_, _| (StatusCode::FOUND, [("location", "http://registry.example/x?signature=secret")]).into_response());
    let error = pull(&away.await).await.unwrap_err().to_string();
    assert!(error.contains("registry.example/x") && error.contains("leaves encryption"), "{error}");
    assert!(!error.contains("secret"), "{error}");
    let loud = start(|_, _| {
        let body = format!(r#"{{"errors":[{{"code":"UNKNOWN","message":"\u001b[2J{}"}}]}}"#, "x".repeat(5_000));
        (StatusCode::INTERNAL_SERVER_ERROR, body).into_response()
    });
    let error = pull(&loud.await).await.unwrap_err().to_string();
    assert!(error.len() < 400 && !error.contains('\u{1b}'), "{error}");
}

#[tokio::test]
async fn a_token_is_fetched_once_with_the_credentials_and_used() {
    let seen = Arc::new(Mutex::new(Vec::<(String, Option<String>)>::new()));
    let log = Arc::clone(&seen);
    let server = start(move |path, headers| {
        let authorization = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
        log.lock().unwrap().push((path.to_owned(), authorization.clone()));
        if path.starts_with("/token") {
            return r#"{"token": "letmein"}"#.into_response();
        }
        if authorization.as_deref() == Some("Bearer letmein") {
            return honest(path);
        }
        let host = headers["host"].to_str().unwrap();
        let challenge = format!(r#"Bearer realm="http://{host}/token",service="r",scope="repository:a:pull""#);
        (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)]).into_response()
    })
    .await;
    let address = &server.address;
    let reference: OciReference = format!("{address}/a").parse().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!(r#"{{"auths": {{"{address}": {{"auth": "YTpi"}}}}}}"#)).unwrap();
    let credentials = Some(Credentials::from_file(file.path(), &reference).unwrap());
    let registry = OciRegistry::new(&reference, OciOptions { credentials, ..OciOptions::default() }).unwrap();
    assert_eq!(registry.pull(&reference).await.unwrap().module, documents().0);
    let seen = seen.lock().unwrap();
    let tokens: Vec<_> = seen.iter().filter(|(path, _)| path.starts_with("/token")).collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].0, "/token?service=r&scope=repository%3Aa%3Apull");
    assert_eq!(tokens[0].1.as_deref(), Some("Basic YTpi"));
    // The password itself went to the token service only.
    assert!(seen.iter().all(|(path, sent)| path.starts_with("/token") || sent.as_deref() != Some("Basic YTpi")));
}

#[tokio::test]
async fn credentials_are_not_sent_in_clear_to_another_machine() {
    let registry = start(|_, _| {
        let challenge = r#"Bearer realm="http://tokens.example/""#;
        (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)]).into_response()
    })
    .await;
    let error = pull(&registry).await.unwrap_err();
    assert!(matches!(&error, OciError::Elsewhere { reason: "it leaves encryption", .. }), "{error}");
}
