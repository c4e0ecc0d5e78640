//! A certificate for a job, as the texts of its files. No agent runs for it: the caller is the whole process.

use std::net::IpAddr;

use eic_protocol::instance_id::InstanceId;
use eic_protocol::os_user::OsUser;
use ssh_key::Certificate;
use zeroize::Zeroizing;

use super::{LoginError, Resident};
use crate::ca::CaError;
use crate::config::HostProfile;
use crate::credentials::Selection;

/// What is written.
pub struct IssuedFiles {
    /// The private key in OpenSSH form.
    pub private_key: Zeroizing<String>,
    /// The certificate's line.
    pub certificate: String,
    /// `@cert-authority` lines of the pinned host CAs, for this instance alone.
    pub known_hosts: String,
    /// When the certificate ends, in Unix seconds.
    pub valid_before: u64,
    /// The instance's first address, where the CA told one.
    pub address: Option<IpAddr>,
    /// Port of its sshd.
    pub port: u16,
}

impl Resident {
    /// Signs in, asks for a certificate and gives key and certificate away.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn issue(
        &self,
        selection: Selection,
        user: &OsUser,
        instance: &InstanceId,
        ttl_seconds: Option<u64>,
    ) -> Result<IssuedFiles, LoginError> {
        let setting = self.settings.current()?;
        let ca = setting.ca.as_ref().ok_or(LoginError::NoCa)?;
        let profile = setting.config.profile(instance.as_str());
        let profile = HostProfile {
            ttl_seconds: ttl_seconds.or(profile.ttl_seconds),
            ..profile
        };
        let issued = self
            .certificate(ca, &selection, user, instance, &profile)
            .await?;
        let certificate = Certificate::from_bytes(&issued.blob).and_then(|c| c.to_openssh());
        let view = issued.instance.as_ref();
        Ok(IssuedFiles {
            private_key: issued.key.reveal_openssh()?,
            certificate: certificate.map_err(|e| CaError::Malformed(e.to_string()))?,
            known_hosts: ca
                .trust
                .host_cas()
                .iter()
                .map(|key| format!("@cert-authority {instance} {key}\n"))
                .collect(),
            valid_before: issued.valid_before,
            address: view.and_then(|view| view.addresses.first().copied()),
            port: view.map_or(22, |view| view.ssh_port),
        })
    }
}
