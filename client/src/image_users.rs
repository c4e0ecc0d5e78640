//! The account that an image comes with, by the image's name ("Default user names for AMIs", EC2 user guide).
//! A name is whatever its owner called it: what follows from it is only whom a login is for, never whether.

use eic_protocol::os_user::OsUser;

/// Beginnings of names of published images, in lower case, and their accounts.
const TABLE: [(&str, &str); 18] = [
    ("ubuntu/images", "ubuntu"),
    ("ubuntu-pro-server/images", "ubuntu"),
    ("ubuntu-eks", "ubuntu"),
    ("al2023-ami", "ec2-user"),
    ("amzn2-ami", "ec2-user"),
    ("amzn-ami", "ec2-user"),
    ("amazon-eks", "ec2-user"),
    ("debian-", "admin"),
    ("rhel-", "ec2-user"),
    ("rocky-", "rocky"),
    ("almalinux os", "ec2-user"),
    ("suse-sles", "ec2-user"),
    ("opensuse", "ec2-user"),
    ("fedora-cloud", "fedora"),
    ("fedora-coreos", "core"),
    ("flatcar", "core"),
    ("freebsd", "ec2-user"),
    ("bitnami", "bitnami"),
];

/// The account of an image of this name, where it is one of those.
#[must_use]
pub fn user_of_image(name: &str) -> Option<OsUser> {
    let name = name.to_ascii_lowercase();
    let known = TABLE.iter().find(|(start, _)| name.starts_with(start));
    known.and_then(|(_, user)| user.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_images_have_their_account_and_others_none() {
        for (name, user) in [
            (
                "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-20260101",
                Some("ubuntu"),
            ),
            (
                "al2023-ami-2023.9.20260101.0-kernel-6.12-x86_64",
                Some("ec2-user"),
            ),
            ("debian-12-amd64-20260101-1", Some("admin")),
            ("RHEL-9.6.0_HVM-20260101-x86_64", Some("ec2-user")),
            ("Rocky-9-EC2-Base-9.6.x86_64", Some("rocky")),
            ("my ubuntu/images", None),
            ("golden-web", None),
            ("", None),
        ] {
            let found = user_of_image(name).map(|user| user.to_string());
            assert_eq!(found.as_deref(), user, "{name}");
        }
        assert!(TABLE.iter().all(|(start, user)| {
            *start == start.to_ascii_lowercase() && user.parse::<OsUser>().is_ok()
        }));
    }
}
