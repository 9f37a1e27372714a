//! `cloud-init`: prints a snippet that puts the licence files of NVIDIA's guest driver into
//! a VM.

use ::cli::{Exit, Failure, fail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use record::print_text;

use crate::cli::CloudInitOptions;
use crate::input::read_file;

/// The verb.
pub fn run(options: &CloudInitOptions) -> anyhow::Result<Exit> {
    let token = read_file(&options.token)?;
    check_token(&token).map_err(|failure| Failure {
        message: format!("'{}': {}", options.token.display(), failure.message),
        ..failure
    })?;
    print_text(&snippet(&token, options.feature_type))?;
    Ok(Exit::Done)
}

/// A client configuration token is a JSON Web Token: three parts of base64url.
fn check_token(token: &[u8]) -> Result<(), Failure> {
    let text = std::str::from_utf8(token).unwrap_or_default().trim();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_=".contains(&b);
    let parts = text.split('.').filter(|part| !part.is_empty() && part.bytes().all(plain)).count();
    if parts == 3 && text.split('.').count() == 3 {
        return Ok(());
    }
    let words = "download it from NVIDIA's licensing portal or licence server \
                 (client_configuration_token_*.tok)";
    Err(fail(Exit::Usage, "not a client configuration token").hint(words))
}

/// Modes as NVIDIA's licensing guide gives them: the daemon may run as another user than
/// the owner.
fn snippet(token: &[u8], feature_type: u8) -> String {
    format!(
        "#cloud-config\n\
         # Licence files of NVIDIA's vGPU guest driver. As vendor data it adds to what Proxmox VE configures:\n\
         #   cp vgpu-licence.yaml /var/lib/vz/snippets/\n\
         #   qm set VMID --cicustom vendor=local:snippets/vgpu-licence.yaml\n\
         write_files:\n  \
         - path: /etc/nvidia/ClientConfigToken/client_configuration_token.tok\n    \
         permissions: '0744'\n    encoding: b64\n    content: {}\n  \
         - path: /etc/nvidia/gridd.conf\n    permissions: '0644'\n    content: |\n      \
         FeatureType={feature_type}\n\
         runcmd:\n  - [systemctl, try-restart, nvidia-gridd.service]\n",
        STANDARD.encode(token)
    )
}
