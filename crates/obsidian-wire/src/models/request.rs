//! One request to a registry: redirects by hand, the token for its own host only, answers bounded.

use std::error::Error;
use std::io;
use std::time::Duration;

use http::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RANGE, RETRY_AFTER};
use http::{Method, StatusCode};
use obsidian_types::limits::MAX_REGISTRY_REDIRECTS;
use reqwest::{Client, Response, Url};

use super::error::{Failure, RegistryError};
use super::listing::Sha256;
use super::{AccessToken, RegistryOptions};
use crate::outward::{authorities, deepest, is_this_machine};

/// Sends requests to one registry.
#[derive(Debug)]
pub(super) struct Requester {
    client: Client,
    endpoint: Url,
    token: Option<AccessToken>,
}

/// An answer, and what the registry said about the file on the way to it.
pub(super) struct Answered {
    pub(super) response: Response,
    /// Where the answer came from.
    pub(super) host: String,
    pub(super) linked: Linked,
}

/// What the registry's own headers say about a file that another host serves.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Linked {
    pub(super) sha256: Option<Sha256>,
    pub(super) size: Option<u64>,
}

impl Linked {
    fn read(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            sha256: text("x-linked-etag").or_else(|| text("etag")).and_then(Sha256::parse),
            size: text("x-linked-size").and_then(|size| size.parse().ok()),
        }
    }
}

impl Requester {
    pub(super) fn new(options: RegistryOptions) -> Result<Self, RegistryError> {
        let refuse =
            |reason: &str| RegistryError::Endpoint { endpoint: options.endpoint.clone(), reason: reason.to_owned() };
        let endpoint = Url::parse(&options.endpoint).map_err(|error| refuse(&error.to_string()))?;
        if !matches!(endpoint.scheme(), "http" | "https") || endpoint.host_str().is_none() {
            return Err(refuse("write https://HOST"));
        }
        if !endpoint.username().is_empty() || endpoint.password().is_some() || endpoint.query().is_some() {
            return Err(refuse("write no user, password or query into it"));
        }
        if options.token.is_some() && endpoint.scheme() == "http" && !is_this_machine(&endpoint) {
            return Err(refuse("an access token is not sent in clear; use https://"));
        }
        // An error means that it is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .user_agent(concat!("obsidian/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.patience.idle.min(Duration::from_secs(15)))
            .read_timeout(options.patience.idle);
        if let Some(path) = &options.authority_file {
            builder = builder.tls_certs_only(authorities(path).map_err(RegistryError::Authorities)?);
        }
        let client = builder.build().map_err(|error| RegistryError::Authorities(deepest(&error)))?;
        Ok(Self { client, endpoint, token: options.token })
    }

    /// A URL below the endpoint; every part is escaped.
    pub(super) fn endpoint(&self, parts: &[&str]) -> Result<Url, Failure> {
        let mut url = self.endpoint.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => segments.pop_if_empty().extend(parts),
            Err(()) => return Err(Failure::protocol("its address has no path")),
        };
        Ok(url)
    }

    /// The whole body of at most `limit` bytes.
    pub(super) async fn read(&self, url: Url, what: &str, limit: usize) -> Result<Vec<u8>, Failure> {
        let answered = self.send(Method::GET, url, what, None, true).await?;
        let (mut response, host) = (answered.response, answered.host);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| broke_off(&host, &error))? {
            if body.len() + chunk.len() > limit {
                return Err(Failure::protocol(format!("its answer for {what} is longer than {limit} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Sends one request, from byte `from` on where given. Follows redirects; to other hosts only if `away`.
    pub(super) async fn send(
        &self,
        method: Method,
        url: Url,
        what: &str,
        from: Option<u64>,
        away: bool,
    ) -> Result<Answered, Failure> {
        let mut url = url;
        let mut linked = Linked::default();
        for _ in 0..=MAX_REGISTRY_REDIRECTS {
            let at_home = self.is_home(&url);
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            if let Some(token) = self.token.as_ref().filter(|_| at_home) {
                headers.insert(AUTHORIZATION, bearer(token)?);
            }
            if let Some(from) = from {
                headers.insert(RANGE, HeaderValue::try_from(format!("bytes={from}-")).map_err(unusual)?);
            }
            let host = url.host_str().unwrap_or_default().to_owned();
            let request = self.client.request(method.clone(), url.clone()).headers(headers);
            let response = request.send().await.map_err(|error| broke_off(&host, &error))?;
            if at_home {
                let told = Linked::read(response.headers());
                linked = Linked { sha256: told.sha256.or(linked.sha256), size: told.size.or(linked.size) };
            }
            if !response.status().is_redirection() {
                check_status(&response, what, at_home)?;
                return Ok(Answered { response, host, linked });
            }
            let next = next(&url, &response)?;
            if !away && !self.is_home(&next) {
                return Ok(Answered { response, host, linked });
            }
            url = next;
        }
        Err(Failure::protocol(format!("it redirects more than {MAX_REGISTRY_REDIRECTS} times for {what}")))
    }

    fn is_home(&self, url: &Url) -> bool {
        url.origin() == self.endpoint.origin()
    }
}

fn bearer(token: &AccessToken) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.0)).map_err(unusual)?;
    value.set_sensitive(true);
    Ok(value)
}

fn unusual(_: http::header::InvalidHeaderValue) -> Failure {
    Failure::protocol("a header cannot be written")
}

/// Where a redirect leads, if that is acceptable.
fn next(from: &Url, response: &Response) -> Result<Url, Failure> {
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let to = location.and_then(|location| from.join(location).ok());
    let to = to.ok_or_else(|| Failure::protocol("a redirect says not where to"))?;
    let refuse = |reason| Failure::Final(RegistryError::Redirect { to: shown(&to), reason });
    if !matches!(to.scheme(), "http" | "https") || to.host_str().is_none() {
        return Err(refuse("only http and https are"));
    }
    if from.scheme() == "https" && to.scheme() == "http" {
        return Err(refuse("it leaves encryption"));
    }
    if is_this_machine(&to) && !is_this_machine(from) {
        return Err(refuse("it leads back into this machine"));
    }
    Ok(to)
}

/// A URL without its query, which may be a signature.
fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

fn check_status(response: &Response, what: &str, at_home: bool) -> Result<(), Failure> {
    let status = response.status();
    let what = what.to_owned();
    match status {
        status if status.is_success() => Ok(()),
        // The place in the file that was asked for is not there; the transfer begins anew.
        StatusCode::RANGE_NOT_SATISFIABLE => Ok(()),
        // At another host this means that the signature in the redirect has run out: ask for a new one.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if at_home => {
            Err(RegistryError::Denied { status: status.as_u16(), what }.into())
        }
        StatusCode::NOT_FOUND if at_home => Err(RegistryError::NotFound { what }.into()),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => Err(passing(response)),
        status if status.is_server_error() || !at_home => Err(passing(response)),
        status => Err(RegistryError::Status { status: status.as_u16(), what }.into()),
    }
}

fn passing(response: &Response) -> Failure {
    let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Failure::Passing {
        reason: format!("it answered {}", response.status()),
        retry_after: seconds.map(Duration::from_secs),
    }
}

/// A failed connection: a certificate that is not believed is final, all else may pass.
pub(super) fn broke_off(host: &str, error: &reqwest::Error) -> Failure {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = source {
        let tls = cause.downcast_ref::<rustls::Error>();
        if let Some(error @ rustls::Error::InvalidCertificate(_)) = tls {
            let reason = crate::tls::explain(&io::Error::other(error.clone()));
            return RegistryError::Certificate { host: host.to_owned(), reason }.into();
        }
        // `source` of an I/O error skips the error that it wraps.
        let wrapped = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        source = wrapped.map(|wrapped| wrapped as &(dyn Error + 'static)).or_else(|| cause.source());
    }
    let what = if error.is_timeout() { "timed out".to_owned() } else { deepest(error) };
    Failure::passing(format!("{host}: {what}"))
}
