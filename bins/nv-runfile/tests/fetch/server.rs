//! An HTTP server on loopback that can misbehave, and counts.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub headers: Vec<(String, String)>,
    /// How many came in for this path before.
    pub before: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// First byte that a Range header asks for.
    pub fn from(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// Where an answer goes.
pub struct Reply<'a> {
    out: &'a mut dyn Write,
    sent: &'a AtomicU64,
}

impl Reply<'_> {
    /// A head: status line without the version, then header lines.
    pub fn head(&mut self, status: &str, headers: &[String]) -> io::Result<()> {
        let mut text = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
        for header in headers {
            text += &format!("{header}\r\n");
        }
        self.out.write_all((text + "\r\n").as_bytes())
    }

    /// Bytes of a body, counted as they go out.
    pub fn body(&mut self, bytes: &[u8]) -> io::Result<()> {
        for chunk in bytes.chunks(16 << 10) {
            self.out.write_all(chunk)?;
            self.sent.fetch_add(chunk.len() as u64, Ordering::SeqCst);
        }
        self.out.flush()
    }

    pub fn status(&mut self, status: &str) -> io::Result<()> {
        self.head(status, &["Content-Length: 0".into()])
    }

    /// Any answer with its right length.
    pub fn whole(&mut self, status: &str, headers: &[&str], body: &[u8]) -> io::Result<()> {
        let mut all: Vec<String> = headers.iter().map(|header| header.to_string()).collect();
        all.push(format!("Content-Length: {}", body.len()));
        self.head(status, &all)?;
        self.body(body)
    }

    /// What a server does that behaves: ranges, and If-Range against an ETag.
    pub fn file(&mut self, request: &Request, bytes: &[u8], etag: &str) -> io::Result<()> {
        self.file_until(request, bytes, etag, bytes.len())
    }

    /// The same, and the connection breaks off before byte `end` of the file.
    pub fn file_until(
        &mut self,
        request: &Request,
        bytes: &[u8],
        etag: &str,
        end: usize,
    ) -> io::Result<()> {
        let same = request.header("if-range").is_none_or(|known| known == etag);
        let from = request.from().filter(|_| same);
        let total = bytes.len();
        if let Some(from) = from.filter(|from| *from >= total) {
            let range = format!("Content-Range: bytes */{total}");
            assert!(from >= total);
            return self.head("416 Range Not Satisfiable", &[range, "Content-Length: 0".into()]);
        }
        let start = from.unwrap_or(0);
        let mut headers =
            vec![format!("ETag: {etag}"), format!("Content-Length: {}", total - start)];
        headers.push("Content-Type: application/octet-stream".into());
        let status = match from {
            None => "200 OK",
            Some(_) => {
                headers.push(format!("Content-Range: bytes {start}-{}/{total}", total - 1));
                "206 Partial Content"
            }
        };
        self.head(status, &headers)?;
        self.body(&bytes[start..end.max(start)])
    }
}

/// A running server; it ends with its owner.
pub struct Server {
    base: String,
    log: Arc<Mutex<Vec<Request>>>,
    sent: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    port: u16,
}

type Behave = dyn Fn(&Request, &mut Reply) -> io::Result<()> + Send + Sync;

impl Server {
    pub fn new(
        behave: impl Fn(&Request, &mut Reply) -> io::Result<()> + Send + Sync + 'static,
    ) -> Server {
        Server::start("http://127.0.0.1", Arc::new(behave), None)
    }

    /// The same over TLS, as `localhost`.
    pub fn tls(
        config: Arc<rustls::ServerConfig>,
        behave: impl Fn(&Request, &mut Reply) -> io::Result<()> + Send + Sync + 'static,
    ) -> Server {
        Server::start("https://localhost", Arc::new(behave), Some(config))
    }

    fn start(host: &str, behave: Arc<Behave>, tls: Option<Arc<rustls::ServerConfig>>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let port = listener.local_addr().expect("address").port();
        let log: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (sent, ended): (Arc<AtomicU64>, Arc<AtomicBool>) = Default::default();
        let server = Server {
            base: format!("{host}:{port}"),
            log: log.clone(),
            sent: sent.clone(),
            ended: ended.clone(),
            port,
        };
        thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (behave, log, sent, tls) =
                    (behave.clone(), log.clone(), sent.clone(), tls.clone());
                thread::spawn(move || {
                    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
                    let _ = match tls {
                        None => serve(stream, &*behave, &log, &sent),
                        Some(config) => {
                            let connection = rustls::ServerConnection::new(config).expect("TLS");
                            serve(
                                rustls::StreamOwned::new(connection, stream),
                                &*behave,
                                &log,
                                &sent,
                            )
                        }
                    };
                });
            }
        });
        server
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().expect("log").clone()
    }

    /// Requests for installers, not for what is said of them.
    pub fn downloads(&self) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.path.ends_with(".run")).collect()
    }

    /// Bytes of bodies so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(
    stream: impl Read + Write,
    behave: &Behave,
    log: &Mutex<Vec<Request>>,
    sent: &AtomicU64,
) -> io::Result<()> {
    let mut stream = BufReader::with_capacity(1, stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_string()),
        }
    }
    let path = lines[0].split(' ').nth(1).unwrap_or_default().to_string();
    let headers = lines[1..].iter().filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let request = {
        let mut log = log.lock().expect("log");
        let before = log.iter().filter(|request| request.path == path).count();
        log.push(Request { path, headers, before });
        log.last().expect("just pushed").clone()
    };
    behave(&request, &mut Reply { out: stream.get_mut(), sent })
}

/// A CA of its own and a server for `localhost`; the CA's certificate as a file.
pub fn authority(dir: &Path) -> (Arc<rustls::ServerConfig>, std::path::PathBuf) {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let openssl = |args: &str| {
        let ran = std::process::Command::new("openssl")
            .args(args.split_ascii_whitespace())
            .current_dir(dir)
            .output()
            .expect("openssl is needed: install openssl");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!(
        "req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=testCA -addext basicConstraints=critical,CA:TRUE"
    ));
    openssl(&format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"));
    std::fs::write(dir.join("ext"), "subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\n")
        .expect("ext");
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -extfile ext -out server.pem",
    );
    let certificate = CertificateDer::from_pem_file(dir.join("server.pem")).expect("certificate");
    let key = PrivateKeyDer::from_pem_file(dir.join("server.key")).expect("key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("certificate and key");
    (Arc::new(config), dir.join("ca.pem"))
}
