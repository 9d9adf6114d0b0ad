//! Tests of counting CPUs, on samples of what machines and containers say.

use super::*;

#[test]
fn the_machine_has_a_cpu() {
    let cpus = available();
    assert!(cpus.count >= 1);
    assert!(
        cpus.why.starts_with(&cpus.count.to_string()),
        "{}",
        cpus.why
    );
    assert!(affinity() >= 1);
}

#[test]
fn the_lower_of_affinity_and_quota_counts() {
    let cases = [
        (8, None, 8, "8 CPUs by affinity"),
        (1, None, 1, "1 CPU by affinity"),
        (0, None, 1, "1 CPU by affinity"),
        (8, Some(0.5), 1, "1 CPU by cgroup quota 0.5 of 8"),
        (8, Some(1.5), 2, "2 CPUs by cgroup quota 1.5 of 8"),
        (8, Some(3.0), 3, "3 CPUs by cgroup quota 3 of 8"),
        (8, Some(0.001), 1, "1 CPU by cgroup quota 0.001 of 8"),
        (8, Some(1.0 / 3.0), 1, "1 CPU by cgroup quota 0.333 of 8"),
        (2, Some(1.5), 2, "2 CPUs by affinity"),
        (2, Some(16.0), 2, "2 CPUs by affinity"),
        (1, Some(0.5), 1, "1 CPU by affinity"),
    ];
    for (affinity, quota, count, why) in cases {
        assert_eq!(
            decide(affinity, quota),
            Cpus {
                count,
                why: why.to_owned()
            }
        );
    }
}

#[test]
fn quotas_are_read() {
    assert_eq!(parse_cpu_max("max 100000\n"), None);
    assert_eq!(parse_cpu_max("50000 100000\n"), Some(0.5));
    assert_eq!(parse_cpu_max("300000 100000\n"), Some(3.0));
    for bad in ["", "50000", "50000 0", "0 100000", "x y", "-1 100000"] {
        assert_eq!(parse_cpu_max(bad), None, "{bad:?}");
    }
    assert_eq!(parse_cfs("-1\n", "100000\n"), None);
    assert_eq!(parse_cfs("150000\n", "100000\n"), Some(1.5));
    assert_eq!(parse_cfs("", "100000\n"), None);
}

#[test]
fn a_thread_is_pinned_alone() {
    let all = sched_getaffinity(Pid::from_raw(0)).expect("ours");
    let usable: Vec<usize> = members(&all).collect();
    // In threads of their own, since a pinned one finds no other CPU any more.
    let pinned = |index| {
        let thread = thread::spawn(move || {
            let cpu = pin(index).expect("one of ours");
            assert_eq!(affinity(), 1);
            assert_eq!(pin(index + 1).expect("the same"), cpu);
            cpu
        });
        thread.join().expect("no panic")
    };
    for index in 0..2 * usable.len() {
        assert_eq!(pinned(index), usable[index % usable.len()]);
    }
    assert!(usable.contains(&pinned(usize::MAX - 1)));
    assert_eq!(affinity(), usable.len(), "this thread is not");
}

/// What the calling thread was reniced to, by proc_pid_stat(5).
fn niceness() -> i32 {
    let stat = fs::read_to_string("/proc/thread-self/stat").expect("/proc");
    let (_, fields) = stat.rsplit_once(") ").expect("a name");
    let nice = fields.split(' ').nth(19 - 3).expect("field 19");
    nice.parse().expect("a number")
}

#[test]
fn a_thread_is_reniced_alone() {
    let before = niceness();
    let thread = thread::spawn(|| {
        for nice in [18, 19, 100] {
            renice(nice).expect("upwards anyone may");
            assert_eq!(niceness(), nice.min(19));
        }
    });
    thread.join().expect("no panic");
    assert_eq!(niceness(), before);
}

#[test]
fn a_thread_makes_way_alone() {
    let before = niceness();
    let thread = thread::spawn(move || {
        make_way(3, Duration::from_millis(20)).expect("upwards anyone may");
        assert_eq!(niceness(), (before + 3).min(19));
        make_way(100, Duration::from_millis(20)).expect("as far as it goes");
        assert_eq!(niceness(), 19);
    });
    thread.join().expect("no panic");
    assert_eq!(niceness(), before);
}
