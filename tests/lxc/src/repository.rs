//! A signed repository as NVIDIA's for CUDA, of packages that hold next to nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use testbed::Bed;

use crate::Host;

/// Runs a program to its end. Panics where it fails.
pub fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("repository");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    output.stdout
}

/// A signing key of its own, until it is dropped.
pub struct Signer(Bed);

impl Signer {
    /// Makes the key.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Signer {
        let signer = Signer(Bed::empty());
        fs::set_permissions(signer.0.path(), fs::Permissions::from_mode(0o700))
            .expect("repository");
        let words = ["--quick-gen-key", "test of pve-gpu-tools", "ed25519", "sign", "never"];
        signer.gpg(&[&["--passphrase", ""], words.as_slice()].concat());
        signer
    }

    /// gpg with it.
    pub fn gpg(&self, words: &[&str]) -> Vec<u8> {
        let mut gpg = Command::new("gpg");
        gpg.env("GNUPGHOME", self.0.path()).args(["--batch", "--quiet", "--yes"]);
        run(gpg.args(words))
    }

    /// The public key on a host.
    pub fn export(&self, host: &Host, path: &str) {
        host.write(path, self.gpg(&["--armor", "--export"]));
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        let mut agent = Command::new("gpgconf");
        let _ = agent.env("GNUPGHOME", self.0.path()).args(["--kill", "gpg-agent"]).status();
    }
}

/// What nvcc of a release says.
pub fn nvcc(release: &str) -> String {
    format!(
        "#!/bin/sh\necho 'nvcc: NVIDIA (R) Cuda compiler driver'\n\
         echo 'Cuda compilation tools, release {release}, V{release}.93'\n"
    )
}

/// Adds a package to a repository. `files` are path and content, executable.
pub fn package(repository: &Path, name: &str, depends: &str, files: &[(&str, String)]) {
    let bed = Bed::empty();
    let depends = if depends.is_empty() { String::new() } else { format!("Depends: {depends}\n") };
    let control = format!(
        "Package: {name}\nVersion: 12.8.1-1\nArchitecture: all\nMaintainer: nobody <n@example.org>\n\
         Description: stand-in\n{depends}"
    );
    bed.write("DEBIAN/control", control);
    for (path, text) in files {
        bed.write(path, text);
        fs::set_permissions(bed.at(path), fs::Permissions::from_mode(0o755)).expect("repository");
    }
    run(Command::new("dpkg-deb")
        .args(["--root-owner-group", "--build"])
        .arg(bed.path())
        .arg(repository.join(format!("{name}.deb"))));
}

/// Writes the flat repository's indices, signed.
pub fn sign(repository: &Path, signer: &Signer) {
    let hash = |path: &Path| {
        let out = String::from_utf8(run(Command::new("sha256sum").arg(path))).expect("repository");
        (out[..64].to_string(), fs::metadata(path).expect("repository").len())
    };
    let mut packages = String::new();
    for entry in fs::read_dir(repository).expect("repository") {
        let path = entry.expect("repository").path();
        if path.extension().is_none_or(|extension| extension != "deb") {
            continue;
        }
        let control = run(Command::new("dpkg-deb").arg("--field").arg(&path));
        let (sha256, size) = hash(&path);
        let name = path.file_name().expect("repository").to_str().expect("repository");
        packages += &String::from_utf8(control).expect("repository");
        packages += &format!("Filename: ./{name}\nSize: {size}\nSHA256: {sha256}\n\n");
    }
    let index = repository.join("Packages");
    fs::write(&index, packages).expect("repository");
    let (sha256, size) = hash(&index);
    let date = String::from_utf8(run(Command::new("date").args(["-Ru"]))).expect("repository");
    let release = format!(
        "Origin: NVIDIA\nLabel: NVIDIA CUDA\nDate: {}\nArchitectures: amd64\n\
         SHA256:\n {sha256} {size} Packages\n",
        date.trim().replace("+0000", "UTC")
    );
    fs::write(repository.join("Release"), release).expect("repository");
    let path = |name: &str| repository.join(name).display().to_string();
    signer.gpg(&["--clearsign", "--output", &path("InRelease"), &path("Release")]);
}
