//! Tests of finding control groups, on samples of what machines and containers say.

use super::*;

fn hierarchy(version: Version, top: &str, own: &str) -> Hierarchy {
    Hierarchy {
        version,
        top: top.into(),
        own: own.into(),
    }
}

fn directories(hierarchy: &Hierarchy) -> Vec<&str> {
    hierarchy
        .directories()
        .map(|(_, dir)| dir.to_str().expect("a sample"))
        .collect()
}

fn cpu_hierarchies(groups: &str, mounts: &str) -> Vec<Hierarchy> {
    hierarchies("cpu", groups, mounts)
}

#[test]
fn a_unified_machine() {
    let groups = "0::/system.slice/web.service\n";
    let mounts = "\
22 61 0:21 / /proc rw,nosuid - proc proc rw
30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate
";
    let found = cpu_hierarchies(groups, mounts);
    assert_eq!(
        found,
        [hierarchy(
            Version::V2,
            "/sys/fs/cgroup",
            "/sys/fs/cgroup/system.slice/web.service"
        )]
    );
    let expected = [
        "/sys/fs/cgroup/system.slice/web.service",
        "/sys/fs/cgroup/system.slice",
        "/sys/fs/cgroup",
    ];
    assert_eq!(directories(&found[0]), expected);
}

#[test]
fn an_old_machine() {
    let groups = "\
12:cpuset:/
4:cpu,cpuacct:/user.slice
3:memory:/user.slice
1:name=systemd:/user.slice/session-1.scope
";
    let mounts = "\
33 25 0:28 / /sys/fs/cgroup/cpuset rw,relatime shared:14 - cgroup cgroup rw,cpuset
34 25 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:15 - cgroup cgroup rw,cpu,cpuacct
35 25 0:30 / /sys/fs/cgroup/systemd rw,relatime shared:9 - cgroup cgroup rw,name=systemd
";
    let found = cpu_hierarchies(groups, mounts);
    let top = "/sys/fs/cgroup/cpu,cpuacct";
    assert_eq!(
        found,
        [hierarchy(
            Version::V1,
            top,
            "/sys/fs/cgroup/cpu,cpuacct/user.slice"
        )]
    );
}

#[test]
fn a_machine_with_both() {
    let groups = "9:name=systemd:/\n3:cpuset:/\n2:cpuacct:/\n1:cpu:/\n0::/\n";
    let mounts = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    let found = cpu_hierarchies(groups, mounts);
    let v1 = hierarchy(Version::V1, "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu");
    let v2 = hierarchy(
        Version::V2,
        "/sys/fs/cgroup/unified",
        "/sys/fs/cgroup/unified",
    );
    assert_eq!(found, [v1, v2]);
    assert_eq!(directories(&found[0]), ["/sys/fs/cgroup/cpu"]);
}

#[test]
fn a_container_that_sees_its_own_part() {
    // Its group's path is the machine's, and the mount's root is that same group.
    let groups = "5:cpu,cpuacct:/docker/0123abcd\n";
    let mounts = "721 720 0:29 /docker/0123abcd /sys/fs/cgroup/cpu,cpuacct ro,relatime master:15 \
                  - cgroup cgroup rw,cpu,cpuacct\n";
    let top = "/sys/fs/cgroup/cpu,cpuacct";
    assert_eq!(
        cpu_hierarchies(groups, mounts),
        [hierarchy(Version::V1, top, top)]
    );
    // A group of its own below that.
    let groups = "5:cpu,cpuacct:/docker/0123abcd/inner\n";
    let own = "/sys/fs/cgroup/cpu,cpuacct/inner";
    assert_eq!(
        cpu_hierarchies(groups, mounts),
        [hierarchy(Version::V1, top, own)]
    );
    // A name that only begins alike is another group.
    let groups = "5:cpu,cpuacct:/docker/0123abcdef\n";
    assert_eq!(
        cpu_hierarchies(groups, mounts),
        [hierarchy(Version::V1, top, top)]
    );
}

#[test]
fn a_container_with_a_namespace_of_groups() {
    let mounts = "30 23 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n";
    for groups in ["0::/\n", "0::/..\n", "0::/../../elsewhere\n"] {
        let found = cpu_hierarchies(groups, mounts);
        assert_eq!(
            found,
            [hierarchy(Version::V2, "/sys/fs/cgroup", "/sys/fs/cgroup")]
        );
    }
    // Mounted from outside of the namespace.
    let mounts = "30 23 0:26 /../.. /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n";
    let found = cpu_hierarchies("0::/\n", mounts);
    assert_eq!(directories(&found[0]), ["/sys/fs/cgroup"]);
}

#[test]
fn a_second_mount_may_be_the_right_one() {
    let mounts = "\
30 23 0:26 /other /mnt/other rw - cgroup2 cgroup rw
31 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw
";
    let found = cpu_hierarchies("0::/web\n", mounts);
    assert_eq!(
        found,
        [hierarchy(
            Version::V2,
            "/sys/fs/cgroup",
            "/sys/fs/cgroup/web"
        )]
    );
}

#[test]
fn nonsense_finds_nothing() {
    let mounts = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
    for (groups, mounts) in [
        ("", mounts),
        ("0::/\n", ""),
        ("0:\n", mounts),
        ("0::/\n", "a - b\n - \n"),
        ("1:memory:/\n", mounts),
    ] {
        assert_eq!(cpu_hierarchies(groups, mounts), []);
    }
}

#[test]
fn escapes_of_mounts_are_undone() {
    let cases = [
        (r"/plain", "/plain"),
        (r"/a\040b\134c", r"/a b\c"),
        (r"/a\04", r"/a\04"),
        (r"\777", r"\777"),
        (r"x\", r"x\"),
    ];
    for (escaped, plain) in cases {
        assert_eq!(unescape(escaped), PathBuf::from(plain));
    }
}

#[test]
fn each_controller_has_its_own_place() {
    let groups = "4:memory:/web\n1:cpu:/\n";
    let mounts = "\
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
";
    let top = "/sys/fs/cgroup/memory";
    assert_eq!(
        hierarchies("memory", groups, mounts),
        [hierarchy(Version::V1, top, "/sys/fs/cgroup/memory/web")]
    );
    assert_eq!(hierarchies("io", groups, mounts), []);
}
