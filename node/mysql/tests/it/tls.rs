use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use node_mysql::Config;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

use crate::backend::serve;
use crate::raw::{CAPABILITIES, Raw};

const SSL: u32 = 1 << 11;

fn configurations() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a matching key");
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a root");
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

fn head(capabilities: u32) -> Vec<u8> {
    let mut payload = capabilities.to_le_bytes().to_vec();
    payload.extend_from_slice(&[0, 0, 0, 1, 45]);
    payload.extend_from_slice(&[0; 23]);
    payload
}

fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let mut all = vec![payload.len() as u8, 0, 0, sequence];
    all.extend_from_slice(payload);
    all
}

fn read(stream: &mut impl Read) -> (u8, Vec<u8>) {
    let mut header = [0; 4];
    stream.read_exact(&mut header).expect("a packet");
    let mut payload = vec![0; usize::from(header[0]) | usize::from(header[1]) << 8];
    stream.read_exact(&mut payload).expect("a payload");
    (header[3], payload)
}

/// Asks for TLS and begins it in the same write, as some clients do.
fn encrypt(socket: TcpStream, config: Arc<ClientConfig>) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from("localhost").expect("a name");
    let mut tls = ClientConnection::new(config, name).expect("a connection");
    let mut first = packet(1, &head(CAPABILITIES | SSL));
    tls.write_tls(&mut first).expect("a hello");
    (&socket).write_all(&first).expect("taken");
    StreamOwned::new(tls, socket)
}

#[test]
fn a_password_goes_through_tls_where_the_server_knows_only_its_salted_hash() {
    let (tls, client) = configurations();
    let (server, _) = serve(Config { tls: Some(tls), ..Config::default() });
    for (password, accepted) in [(&b"wrong\0"[..], false), (b"secret\0", true)] {
        let raw = Raw::connect(server.local_addr());
        let mut stream = encrypt(raw.socket, Arc::clone(&client));
        let mut login = head(CAPABILITIES | SSL);
        login.extend_from_slice(b"salted\0\x20");
        login.extend_from_slice(&[7; 32]);
        login.extend_from_slice(b"caching_sha2_password\0");
        stream.write_all(&packet(2, &login)).expect("taken");
        assert_eq!(read(&mut stream), (3, vec![1, 4]), "asks for the password");
        stream.write_all(&packet(4, password)).expect("taken");
        let (sequence, answer) = read(&mut stream);
        assert_eq!((sequence, answer[0] == 0), (5, accepted));
        if accepted {
            stream.write_all(&packet(0, b"\x03rows 100 100")).expect("taken");
            assert_eq!(read(&mut stream), (1, vec![2]), "two columns");
        }
    }
}

#[test]
fn tls_is_not_offered_without_a_certificate_and_refused_if_asked_for() {
    let (server, _) = serve(Config::default());
    let mut raw = Raw::connect(server.local_addr());
    let version = raw.greeting.iter().position(|byte| *byte == 0).expect("a version");
    let low = u16::from_le_bytes([raw.greeting[version + 14], raw.greeting[version + 15]]);
    assert_eq!(u32::from(low) & SSL, 0);
    raw.write(1, &head(CAPABILITIES | SSL));
    assert_eq!(raw.read_error().1, 1043);
}

#[test]
fn nonsense_in_place_of_tls_ends_only_its_own_connection() {
    let (tls, _) = configurations();
    let (server, _) = serve(Config { tls: Some(tls), ..Config::default() });
    let mut raw = Raw::connect(server.local_addr());
    raw.write(1, &head(CAPABILITIES | SSL));
    raw.socket.write_all(b"this is no TLS at all").expect("taken");
    while raw.socket.read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
    Raw::login(server.local_addr()).ping();
}
