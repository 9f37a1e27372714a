//! One request to one server, or one look into a file: what is asked, which
//! answers count, and how failures are told apart.

use std::io::Read;
use std::time::Duration;

use host::InputFile;
use ureq::http::{HeaderMap, Response, Uri, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy};
use ureq_proto::Error as Protocol;

use crate::cli::Patience;
use crate::fetch::request::file_path;

/// NVIDIA's hosts answer with none; a mirror may need two or three.
const MOST_REDIRECTS: u32 = 5;
/// A server that asks for more than this is not waited for.
pub const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// The URL.
    pub url: String,
    /// From this byte on; 0 is the whole.
    pub from: u64,
    /// Only if it is still what it was: an ETag or a date.
    pub if_range: Option<String>,
}

/// An answer that holds bytes.
pub struct Answer {
    /// What they are.
    pub head: Head,
    /// The bytes.
    pub body: Box<dyn Read + Send>,
}

/// What an answer's head says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// First byte that it holds.
    pub from: u64,
    /// Bytes of the whole file.
    pub total: Option<u64>,
    /// What If-Range may name later.
    pub validator: Option<String>,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The server answers, and does not have it.
    NotHere(String),
    /// What it has is not what is wanted; asking again does not help.
    Wrong(String),
    /// The range cannot be had; the whole can be asked for.
    NoRange {
        /// In words.
        why: String,
        /// Bytes of the whole file, where the server says so.
        total: Option<u64>,
    },
    /// It may be another time.
    Later {
        /// In words.
        why: String,
        /// When to ask again, where the server says so.
        after: Option<Duration>,
    },
}

fn later(why: impl Into<String>) -> Trouble {
    Trouble::Later { why: why.into(), after: None }
}

/// Asks. `patience` bounds the time until the head of an answer is there.
pub fn ask(ask: &Ask, patience: Patience) -> Result<Answer, Trouble> {
    match file_path(&ask.url) {
        Some(path) => from_file(path),
        None => from_server(ask, patience),
    }
}

fn from_file(path: &str) -> Result<Answer, Trouble> {
    let file = InputFile::open(std::path::Path::new(path)).map_err(|error| {
        match error.is_not_found() {
            true => Trouble::NotHere("does not exist".into()),
            false => Trouble::Wrong(error.to_string()),
        }
    })?;
    let head = Head { from: 0, total: Some(file.size()), validator: None };
    Ok(Answer { head, body: Box::new(file) })
}

fn from_server(ask: &Ask, patience: Patience) -> Result<Answer, Trouble> {
    let agent = agent(&ask.url, patience)?;
    // what is hashed must be what is kept: no compression on the way
    let mut request = agent.get(&ask.url).header("Accept-Encoding", "identity");
    if ask.from > 0 {
        request = request.header("Range", format!("bytes={}-", ask.from));
        if let Some(validator) = &ask.if_range {
            request = request.header("If-Range", validator);
        }
    }
    answer(request.call().map_err(trouble)?, ask)
}

/// A static C library would load the modules that nsswitch.conf names, and crash
/// in those that were built for another version of it (systemd's do): names are
/// looked up by the two that it has built in.
#[cfg(all(target_feature = "crt-static", target_env = "gnu"))]
fn only_built_in_lookups() {
    use std::ffi::{c_char, c_int};
    unsafe extern "C" {
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: nss.h has it so; both are strings that end in NUL and live for ever, and no
        // name has been looked up yet.
        unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) };
    });
}

fn agent(url: &str, patience: Patience) -> Result<Agent, Trouble> {
    #[cfg(all(target_feature = "crt-static", target_env = "gnu"))]
    only_built_in_lookups();
    let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(MOST_REDIRECTS)
        .https_only(url.starts_with("https://"))
        .proxy(proxy(url, &|name| std::env::var(name).ok())?)
        .tls_config(tls)
        .user_agent(concat!("nv-runfile/", env!("CARGO_PKG_VERSION")))
        .accept("*/*")
        .timeout_resolve(Some(patience.connect_timeout))
        .timeout_connect(Some(patience.connect_timeout))
        .timeout_send_request(Some(patience.stall_timeout))
        .timeout_recv_response(Some(patience.stall_timeout))
        .timeout_per_read(Some(patience.stall_timeout))
        .max_idle_connections(0)
        .build();
    Ok(config.new_agent())
}

/// The proxy that the environment names for a URL, as curl reads it, except
/// that HTTP_PROXY counts, too: this program is not run by a CGI server. The
/// proxy is chosen once; a redirect to a host that NO_PROXY names goes around it.
fn proxy(url: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Proxy>, Trouble> {
    let first = |names: &[&str]| names.iter().find_map(|name| env(name).filter(|v| !v.is_empty()));
    let uri: Uri = url.parse().map_err(|_| Trouble::Wrong("is not a URL".into()))?;
    let named = match uri.scheme_str() {
        Some("https") => first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
        _ => first(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]),
    };
    let Some(named) = named else { return Ok(None) };
    let excepted = first(&["no_proxy", "NO_PROXY"]).unwrap_or_default();
    let proxy = Proxy::new(&named).and_then(|proxy| with_exceptions(&proxy, &excepted));
    proxy.map(Some).map_err(|_| Trouble::Wrong("the proxy in the environment is not a URL".into()))
}

/// The proxy, but not for the hosts of a NO_PROXY list: a name there stands for
/// itself and for the domain below it, `*` for every host.
fn with_exceptions(proxy: &Proxy, list: &str) -> Result<Proxy, ureq::Error> {
    let mut builder = Proxy::builder(proxy.protocol()).host(proxy.host()).port(proxy.port());
    if let Some(name) = proxy.username() {
        builder = builder.username(name);
    }
    if let Some(password) = proxy.password() {
        builder = builder.password(password);
    }
    for entry in list.split(',').map(|entry| entry.trim().trim_start_matches('.')) {
        builder = match entry {
            "" => builder,
            "*" => builder.no_proxy("*"),
            // a URL has an IPv6 address in brackets
            address if address.contains(':') => builder.no_proxy(&format!("[{address}]")),
            name => builder.no_proxy(name).no_proxy(&format!(".{name}")),
        };
    }
    builder.build()
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(|value| value.trim().to_string())
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// What an answer is worth.
fn answer(response: Response<Body>, ask: &Ask) -> Result<Answer, Trouble> {
    let (status, headers) = (response.status().as_u16(), response.headers());
    let says = || format!("answers {}", response.status());
    match status {
        200 | 206 => {}
        416 if ask.from > 0 => {
            let total = text(headers, "content-range");
            let total = total.and_then(|range| number(range.strip_prefix("bytes */")?));
            return Err(Trouble::NoRange { why: says(), total });
        }
        408 | 425 | 429 | 500 | 502 | 503 | 504 => {
            let after = text(headers, "retry-after").and_then(|value| number(&value));
            return Err(Trouble::Later { why: says(), after: after.map(Duration::from_secs) });
        }
        401 | 403 | 404 | 410 | 451 => return Err(Trouble::NotHere(says())),
        _ => return Err(Trouble::Wrong(says())),
    }
    if let Some(encoding) = text(headers, "content-encoding").filter(|e| e != "identity") {
        return Err(Trouble::Wrong(format!(
            "sends it packed with {encoding}, which was not asked"
        )));
    }
    let kind = text(headers, "content-type").unwrap_or_default().to_ascii_lowercase();
    if kind.starts_with("text/html") && ask.url.ends_with(".run") {
        return Err(Trouble::Wrong("answers with a page (HTML) instead of a file".into()));
    }
    let length = text(headers, header::CONTENT_LENGTH.as_str()).and_then(|value| number(&value));
    let mut head = Head { from: 0, total: length, validator: validator(headers) };
    if status == 206 {
        let range = text(headers, "content-range").and_then(|range| content_range(&range));
        match range {
            Some((from, last, total))
                if ask.from > 0
                    && from == ask.from
                    && last.checked_add(1) == Some(total)
                    && length.is_none_or(|length| length == total - from) =>
            {
                (head.from, head.total) = (from, Some(total));
            }
            _ => {
                let why = "answers with another range than was asked for".into();
                return Err(Trouble::NoRange { why, total: None });
            }
        }
    }
    let body = response.into_body().into_with_config().limit(u64::MAX).reader();
    Ok(Answer { head, body: Box::new(body) })
}

/// `bytes 5-9/10`.
fn content_range(value: &str) -> Option<(u64, u64, u64)> {
    let (range, total) = value.strip_prefix("bytes ")?.trim().split_once('/')?;
    let (from, last) = range.split_once('-')?;
    Some((number(from)?, number(last)?, number(total)?))
}

/// A strong ETag, else the date of the last change (RFC 9110, 13.1.5: If-Range
/// takes no weak one).
fn validator(headers: &HeaderMap) -> Option<String> {
    let etag = text(headers, "etag").filter(|tag| tag.starts_with('"') && tag.len() < 256);
    etag.or_else(|| text(headers, "last-modified").filter(|date| date.len() < 64))
}

/// A failed request in words.
fn trouble(error: ureq::Error) -> Trouble {
    let text = error.to_string();
    match error {
        ureq::Error::HostNotFound => later("its name cannot be looked up"),
        ureq::Error::ConnectionFailed => later("cannot be connected to"),
        ureq::Error::Timeout(what) => later(format!("does not answer in time ({what})")),
        ureq::Error::ConnectProxyFailed(why) => later(format!("the proxy refuses: {why}")),
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) => Trouble::Wrong(tls(&text)),
        ureq::Error::TooManyRedirects => {
            Trouble::Wrong(format!("redirects more than {MOST_REDIRECTS} times"))
        }
        ureq::Error::RequireHttpsOnly(_) => Trouble::Wrong("redirects away from https".into()),
        // a Location that is missing, or that is not the URL of a server
        ureq::Error::BadUri(_)
        | ureq::Error::Protocol(Protocol::NoLocationHeader | Protocol::BadLocationHeader(_)) => {
            Trouble::Wrong("redirects to nowhere".into())
        }
        ureq::Error::Io(error) => io_trouble(&error),
        _ => later(text),
    }
}

/// A failed read in words.
pub fn io_trouble(error: &std::io::Error) -> Trouble {
    let text = error.to_string();
    // a certificate that does not fit stays so
    if text.contains("certificate") {
        return Trouble::Wrong(tls(&text));
    }
    if let Some((_, why)) = text.split_once("failed to lookup address information: ") {
        return later(format!("its name cannot be looked up: {}", why.to_ascii_lowercase()));
    }
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => later("refuses connections"),
        std::io::ErrorKind::UnexpectedEof => later("the connection broke off"),
        _ => later(text.split(" (os error").next().unwrap_or(&text).to_ascii_lowercase()),
    }
}

fn tls(text: &str) -> String {
    format!("TLS: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_strictly() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, 9, 10)));
        for bad in
            ["bytes 5-9/*", "5-9/10", "bytes */10", "bytes -9/10", "bytes 5-/10", "items 5-9/10"]
        {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn proxies_are_chosen_by_scheme_and_hosts_are_left_out() {
        let env = |name: &str| match name {
            "https_proxy" => Some("http://p:1".to_string()),
            "ALL_PROXY" => Some("http://q:2".to_string()),
            "no_proxy" => Some("localhost, .example.org,10.0.0.1".to_string()),
            _ => None,
        };
        let host = |url: &str| {
            let proxy = proxy(url, &env).unwrap().filter(|p| !p.is_no_proxy(&url.parse().unwrap()));
            proxy.map(|proxy| proxy.host().to_string())
        };
        assert_eq!(host("https://x/y").as_deref(), Some("p"));
        assert_eq!(host("http://x/y").as_deref(), Some("q"));
        for around in [
            "https://localhost/",
            "https://a.example.org/",
            "https://example.org/",
            "http://10.0.0.1:80/",
        ] {
            assert_eq!(host(around), None, "{around}");
        }
        assert!(host("https://notexample.org/").is_some());
        assert!(
            proxy("https://x/y", &|name| (name == "https_proxy").then(|| "::".into())).is_err()
        );
    }
}
