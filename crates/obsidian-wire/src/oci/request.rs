//! One request to an OCI registry: authorised when it asks for it, redirected by hand, read within limits.

use std::sync::Mutex;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, StatusCode};
use obsidian_types::limits::{MAX_OCI_ANSWER_BYTES, MAX_OCI_REDIRECTS};
use reqwest::{Client, Response, Url};

use super::OciOptions;
use super::authorization::{Challenge, Credentials, TokenAnswer};
use super::error::OciError;
use super::reference::OciReference;
use crate::outward::{authorities, deepest, is_this_machine};

/// Sends requests to one registry.
#[derive(Debug)]
pub(super) struct Requester {
    client: Client,
    home: Url,
    plain_http: bool,
    credentials: Option<Credentials>,
    /// What the registry took last, for reading and for writing: a token that may read is not tried for writing.
    accepted: Mutex<[Option<HeaderValue>; 2]>,
}

/// A request before it is sent; it may be sent more than once.
pub(super) struct Request {
    method: Method,
    url: Url,
    accept: Option<String>,
    body: Option<(&'static str, bytes::Bytes)>,
    writes: bool,
}

impl Request {
    pub(super) fn accepting(mut self, kind: &str) -> Self {
        self.accept = Some(kind.to_owned());
        self
    }

    pub(super) fn pushing(mut self) -> Self {
        self.writes = true;
        self
    }

    pub(super) fn with_body(mut self, kind: &'static str, bytes: Vec<u8>) -> Self {
        self.body = Some((kind, bytes.into()));
        self
    }
}

/// An answer whose status is a success.
pub(super) struct Answer {
    response: Response,
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn has_header(&self, name: &str) -> bool {
        self.response.headers().contains_key(name)
    }

    /// The body, at most `limit` bytes.
    pub(super) async fn read(self, limit: usize, what: &str) -> Result<Vec<u8>, OciError> {
        let too_long = || OciError::TooLong { what: what.to_owned(), limit };
        read(self.response, limit).await?.ok_or_else(too_long)
    }
}

impl Requester {
    pub(super) fn new(reference: &OciReference, options: OciOptions) -> Result<Self, OciError> {
        let home = |scheme: &str| {
            let url = Url::parse(&format!("{scheme}://{}/v2/", reference.registry));
            url.map_err(|error| OciError::Protocol(format!("{} is no host: {error}", reference.registry)))
        };
        let mut url = home("https")?;
        if options.plain_http || is_this_machine(&url) && options.authority_file.is_none() {
            url = home("http")?;
        }
        // An error means that it is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .user_agent(concat!("obsidian/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.idle.min(Duration::from_secs(15)))
            .read_timeout(options.idle);
        if let Some(path) = &options.authority_file {
            builder = builder.tls_certs_only(authorities(path).map_err(OciError::Authorities)?);
        }
        let client = builder.build().map_err(|error| OciError::Authorities(deepest(&error)))?;
        Ok(Self {
            client,
            home: url,
            plain_http: options.plain_http,
            credentials: options.credentials,
            accepted: Mutex::default(),
        })
    }

    /// A URL below the repository; every part is escaped.
    pub(super) fn url(&self, reference: &OciReference, parts: &[&str]) -> Result<Url, OciError> {
        let mut url = self.home.clone();
        let Ok(mut segments) = url.path_segments_mut() else {
            return Err(OciError::Protocol("its address has no path".to_owned()));
        };
        segments.pop_if_empty().extend(reference.repository.split('/')).extend(parts);
        drop(segments);
        Ok(url)
    }

    pub(super) fn request(&self, method: Method, url: Url) -> Request {
        Request { method, url, accept: None, body: None, writes: false }
    }

    /// Sends a request, twice if the registry wants to know who asks, and follows redirects of what only reads.
    pub(super) async fn send(&self, request: Request, what: &str) -> Result<Answer, OciError> {
        let mut authorization = self.remembered(request.writes);
        let mut response = self.once(&request, request.url.clone(), authorization.clone()).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            authorization = self.answer_challenge(&response, what, request.writes).await?;
            response = self.once(&request, request.url.clone(), authorization).await?;
        }
        let mut from = request.url.clone();
        for _ in 0..MAX_OCI_REDIRECTS {
            if !response.status().is_redirection() || request.body.is_some() {
                break;
            }
            let next = self.next(&from, &response)?;
            // Another host gets neither credentials nor token: the redirect carries what it needs.
            let known = (next.origin() == self.home.origin()).then(|| self.remembered(request.writes)).flatten();
            response = self.once(&request, next.clone(), known).await?;
            from = next;
        }
        judge(response, what).await
    }

    /// Where an upload goes on; it must stay with the registry.
    pub(super) fn place(&self, begun: &Answer) -> Result<Url, OciError> {
        let to = self.next(&self.home, &begun.response)?;
        if to.origin() != self.home.origin() {
            return Err(OciError::Elsewhere { to: shown(&to), reason: "an upload stays with the registry" });
        }
        Ok(to)
    }

    async fn once(&self, request: &Request, url: Url, known: Option<HeaderValue>) -> Result<Response, OciError> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let mut builder = self.client.request(request.method.clone(), url);
        if let Some(kind) = &request.accept {
            builder = builder.header(ACCEPT, kind);
        }
        if let Some(known) = known {
            builder = builder.header(AUTHORIZATION, known);
        }
        if let Some((kind, body)) = &request.body {
            builder = builder.header(CONTENT_TYPE, *kind).body(body.clone());
        } else if request.method == Method::POST {
            builder = builder.body(bytes::Bytes::new());
        }
        builder.send().await.map_err(|error| unavailable(&host, &error))
    }

    fn remembered(&self, writes: bool) -> Option<HeaderValue> {
        self.accepted.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[usize::from(writes)].clone()
    }

    async fn answer_challenge(
        &self,
        response: &Response,
        what: &str,
        writes: bool,
    ) -> Result<Option<HeaderValue>, OciError> {
        let denied = || OciError::Denied { status: 401, what: what.to_owned() };
        let header = response.headers().get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
        let header = match header.and_then(Challenge::parse).ok_or_else(denied)? {
            Challenge::Basic => self.credentials.as_ref().ok_or_else(denied)?.header()?,
            Challenge::Bearer { realm, service, scope } => self.token(&realm, service, scope).await?,
        };
        self.accepted.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[usize::from(writes)] =
            Some(header.clone());
        Ok(Some(header))
    }

    /// Exchanges credentials (or none) for a token at the service that the registry names.
    async fn token(
        &self,
        realm: &str,
        service: Option<String>,
        scope: Option<String>,
    ) -> Result<HeaderValue, OciError> {
        let mut url = Url::parse(realm).map_err(|_| OciError::Protocol("its token service is no URL".to_owned()))?;
        self.may_go(&self.home, &url)?;
        for (name, value) in [("service", service), ("scope", scope)] {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, &value);
            }
        }
        let host = url.host_str().unwrap_or_default().to_owned();
        let mut builder = self.client.get(url);
        if let Some(credentials) = &self.credentials {
            builder = builder.header(AUTHORIZATION, credentials.header()?);
        }
        let response = builder.send().await.map_err(|error| unavailable(&host, &error))?;
        let answer = judge(response, "an access token").await?.read(MAX_OCI_ANSWER_BYTES, "an access token").await?;
        let answer: TokenAnswer = serde_json::from_slice(&answer)
            .map_err(|_| OciError::Protocol("its token service sent no JSON".to_owned()))?;
        answer.header()
    }

    /// Where `Location` leads, if that is acceptable.
    fn next(&self, from: &Url, response: &Response) -> Result<Url, OciError> {
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let to = location.and_then(|location| from.join(location).ok());
        let to = to.ok_or_else(|| OciError::Protocol("it says not where to go on".to_owned()))?;
        self.may_go(from, &to)?;
        Ok(to)
    }

    fn may_go(&self, from: &Url, to: &Url) -> Result<(), OciError> {
        let refuse = |reason| Err(OciError::Elsewhere { to: shown(to), reason });
        if !matches!(to.scheme(), "http" | "https") || to.host_str().is_none() {
            return refuse("only http and https are");
        }
        if is_this_machine(to) && !is_this_machine(from) {
            return refuse("it leads back into this machine");
        }
        if to.scheme() == "http" && !self.plain_http && !is_this_machine(to) {
            return refuse("it leaves encryption");
        }
        Ok(())
    }
}

async fn judge(response: Response, what: &str) -> Result<Answer, OciError> {
    let status = response.status();
    let what = what.to_owned();
    match status {
        status if status.is_success() => Ok(Answer { response }),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(OciError::Denied { status: status.as_u16(), what }),
        StatusCode::NOT_FOUND => Err(OciError::NotFound { what }),
        status => Err(OciError::Status { status: status.as_u16(), what, reason: reason(response).await }),
    }
}

/// What the registry's own error says, shortened and without characters that a terminal obeys.
async fn reason(response: Response) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        message: Option<String>,
    }
    let body = read(response, MAX_OCI_ANSWER_BYTES).await.ok().flatten().unwrap_or_default();
    let errors: Option<Errors> = serde_json::from_slice(&body).ok();
    let message = errors.and_then(|errors| errors.errors.into_iter().find_map(|one| one.message)).unwrap_or_default();
    let message: String = message.chars().filter(|character| !character.is_control()).take(200).collect();
    if message.is_empty() { message } else { format!(": {message}") }
}

/// The body, or nothing if it is longer than `limit`.
async fn read(mut response: Response, limit: usize) -> Result<Option<Vec<u8>>, OciError> {
    let host = response.url().host_str().unwrap_or_default().to_owned();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unavailable(&host, &error))? {
        if body.len() + chunk.len() > limit {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

fn unavailable(host: &str, error: &reqwest::Error) -> OciError {
    let reason = if error.is_timeout() { "timed out".to_owned() } else { deepest(error) };
    OciError::Unavailable { host: host.to_owned(), reason }
}

/// A URL without its query, which may be a signature.
fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}
