//! Which instance this machine is, by what the hypervisor tells the kernel.
//! Needs no network; cannot be changed from inside the machine, unlike a file on its disk.

use std::fs;
use std::path::PathBuf;

use eic_protocol::instance_id::InstanceId;

/// The kernel's view of the hardware.
#[derive(Clone, Debug)]
pub struct Machine {
    sys: PathBuf,
}

/// What the hypervisor says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hypervisor {
    /// EC2 on Nitro: the asset tag is the instance id.
    Nitro(InstanceId),
    /// EC2 on Xen: known to be EC2, the instance id is not told.
    Xen,
    /// Anything else.
    Elsewhere,
}

impl Machine {
    /// This machine, by `/sys`.
    #[must_use]
    pub fn this() -> Self {
        Self::at(PathBuf::from("/sys"))
    }

    /// A machine whose sysfs is mounted at `sys`.
    #[must_use]
    pub fn at(sys: PathBuf) -> Self {
        Self { sys }
    }

    /// Xen's uuid decides where it exists (old instance types); else the asset tag of the DMI table.
    #[must_use]
    pub fn hypervisor(&self) -> Hypervisor {
        if let Ok(uuid) = fs::read(self.sys.join("hypervisor/uuid")) {
            return if uuid.starts_with(b"ec2") {
                Hypervisor::Xen
            } else {
                Hypervisor::Elsewhere
            };
        }
        match self.asset_tag() {
            Some(id) if !id.is_managed() => Hypervisor::Nitro(id),
            _ => Hypervisor::Elsewhere,
        }
    }

    fn asset_tag(&self) -> Option<InstanceId> {
        let tag =
            fs::read_to_string(self.sys.join("devices/virtual/dmi/id/board_asset_tag")).ok()?;
        tag.trim_end_matches('\n').parse().ok()
    }
}

impl Hypervisor {
    /// Whether this machine can be the instance `id`.
    #[must_use]
    pub fn may_be(&self, id: &InstanceId) -> bool {
        match self {
            Self::Nitro(own) => own == id,
            Self::Xen => true,
            Self::Elsewhere => false,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A sysfs with the given asset tag.
    pub(crate) fn nitro(folder: &std::path::Path, tag: &str) -> Machine {
        let dmi = folder.join("devices/virtual/dmi/id");
        fs::create_dir_all(&dmi).unwrap();
        fs::write(dmi.join("board_asset_tag"), tag).unwrap();
        Machine::at(folder.to_path_buf())
    }

    /// A sysfs with the given hypervisor uuid.
    pub(crate) fn xen(folder: &std::path::Path, uuid: &str) -> Machine {
        fs::create_dir_all(folder.join("hypervisor")).unwrap();
        fs::write(folder.join("hypervisor/uuid"), uuid).unwrap();
        Machine::at(folder.to_path_buf())
    }

    #[test]
    fn machines_outside_ec2_are_no_instance() {
        // I-22
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            Machine::at(folder.path().to_path_buf()).hypervisor(),
            Hypervisor::Elsewhere
        );
        for tag in [
            "Not Specified\n",
            "",
            "i-XYZ\n",
            "mi-0123456789abcdef0\n",
            "i-0123456789abcdef0 x\n",
        ] {
            assert_eq!(
                nitro(folder.path(), tag).hypervisor(),
                Hypervisor::Elsewhere,
                "{tag:?}"
            );
        }
        assert_eq!(
            xen(folder.path(), "4c4c4544-0\n").hypervisor(),
            Hypervisor::Elsewhere
        );
    }

    #[test]
    fn another_instances_tag_does_not_match() {
        // I-08
        let folder = tempfile::tempdir().unwrap();
        let hypervisor = nitro(folder.path(), "i-0123456789abcdef0\n").hypervisor();
        assert!(!hypervisor.may_be(&"i-0123456789abcdef1".parse().unwrap()));
        assert!(hypervisor.may_be(&"i-0123456789abcdef0".parse().unwrap()));
    }

    #[test]
    fn xen_tells_that_it_is_ec2_but_not_which_instance() {
        let folder = tempfile::tempdir().unwrap();
        let hypervisor = xen(folder.path(), "ec2e1916-9099-7caf-fd21-012345abcdef\n").hypervisor();
        assert_eq!(hypervisor, Hypervisor::Xen);
        assert!(hypervisor.may_be(&"i-0123456789abcdef1".parse().unwrap()));
    }
}
