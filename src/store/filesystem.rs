//! Where the store lies: whether its promises can be kept there.

use std::path::Path;

/// The name of the network file system that a directory is on, if it is on one: a lock or a sync may mean
/// less there, and the database's index of its log is not shared between machines.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn is_remote(dir: &Path) -> Option<&'static str> {
    let found = rustix::fs::statfs(dir).ok()?;
    #[allow(
        clippy::unnecessary_cast,
        reason = "the width differs between platforms"
    )]
    remote(found.f_type as u32)
}

/// On other systems nobody says.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn is_remote(_dir: &Path) -> Option<&'static str> {
    None
}

/// The file systems by their magic numbers (statfs(2), linux/magic.h and the projects' own headers).
#[cfg(any(target_os = "linux", target_os = "android", test))]
fn remote(magic: u32) -> Option<&'static str> {
    let name = match magic {
        0x6969 => "NFS",
        0x517b => "SMB",
        0xff53_4d42 => "CIFS",
        0xfe53_4d42 => "SMB2",
        0x0102_1997 => "9p",
        0x00c3_6400 => "Ceph",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x1983_0326 => "BeeGFS",
        0x7375_7245 => "Coda",
        0x786f_4256 => "a folder shared by VirtualBox",
        0x6573_5546 => "FUSE",
        _ => return None,
    };
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_told_from_local_ones() {
        assert_eq!(remote(0x6969), Some("NFS"));
        assert_eq!(remote(0x6573_5546), Some("FUSE"));
        let (ext4, tmpfs, btrfs, xfs, overlay) =
            (0xef53, 0x0102_1994, 0x9123_683e, 0x5846_5342, 0x794c_7630);
        for local in [ext4, tmpfs, btrfs, xfs, overlay] {
            assert_eq!(remote(local), None);
        }
    }
}
