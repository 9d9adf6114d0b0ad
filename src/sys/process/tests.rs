//! Tests of what can be seen without a child: libtest has threads, and even executing a program
//! would hold the descriptors of tests beside open for a moment.

use super::*;

#[test]
fn fork_refuses_a_process_with_threads() {
    let error = thread::scope(|scope| scope.spawn(fork).join().expect("no panic"))
        .expect_err("libtest has threads");
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    let text = error.to_string();
    assert!(text.starts_with("cannot fork: this process has "), "{text}");
    assert!(
        text.ends_with(" threads; fork before starting any, or use threads mode"),
        "{text}"
    );
}

#[test]
fn threads_are_counted() {
    assert!(thread_count().expect("/proc") >= 1);
    assert_eq!(
        parse_thread_count(b"Name:\tx\xc3\nTgid:\t7\nThreads:\t12\nSigQ:\t0/1\n"),
        Some(12)
    );
    assert_eq!(parse_thread_count(b"Name:\tThreads: 3\n"), None);
    assert_eq!(parse_thread_count(b"Threads:\tmany\n"), None);
    assert_eq!(parse_thread_count(b""), None);
}

#[test]
fn exits_say_what_happened() {
    let signal = |signal, core_dumped| Exit::Signal {
        signal,
        core_dumped,
    };
    let cases = [
        (Exit::Code(3), "code 3"),
        (signal(libc::SIGKILL, false), "signal 9 (SIGKILL)"),
        (
            signal(libc::SIGABRT, true),
            "signal 6 (SIGABRT), core dumped",
        ),
        (signal(40, false), "signal 40"),
    ];
    for (exit, text) in cases {
        assert_eq!(exit.to_string(), text);
    }
}

#[test]
fn status_words_are_read() {
    assert_eq!(Exit::from_status(0x0300), Some(Exit::Code(3)));
    assert_eq!(
        Exit::from_status(9),
        Some(Exit::Signal {
            signal: 9,
            core_dumped: false
        })
    );
    assert_eq!(
        Exit::from_status(0x86),
        Some(Exit::Signal {
            signal: 6,
            core_dumped: true
        })
    );
    assert_eq!(
        Exit::from_status(35),
        Some(Exit::Signal {
            signal: 35,
            core_dumped: false
        })
    );
    assert_eq!(Exit::from_status(0x137f), None, "stopped is not ended");
}

#[test]
fn signals_have_names() {
    assert_eq!(signal_name(libc::SIGTERM), Some("SIGTERM"));
    assert_eq!(signal_name(libc::SIGCHLD), Some("SIGCHLD"));
    assert_eq!(signal_name(0), None);
    assert_eq!(signal_name(libc::SIGRTMIN()), None);
}

#[test]
fn ids_that_mean_groups_are_refused() {
    for raw in [0, -1, i32::MIN] {
        let pid = Pid::from_raw(raw);
        assert_eq!(
            kill(pid, 0).expect_err("a group").kind(),
            io::ErrorKind::InvalidInput
        );
        assert_eq!(
            try_wait(pid).expect_err("a group").kind(),
            io::ErrorKind::InvalidInput
        );
    }
}

#[test]
fn one_may_signal_oneself_but_is_not_ones_own_child() {
    kill(pid(), 0).expect("ourselves");
    assert_eq!(
        kill(pid(), 1000).expect_err("no signal").raw_os_error(),
        Some(libc::EINVAL)
    );
    assert_eq!(
        try_wait(pid()).expect_err("no child").raw_os_error(),
        Some(libc::ECHILD)
    );
    assert_ne!(pid(), parent_pid());
}

#[test]
fn who_has_no_children_has_none_that_ended() {
    assert_eq!(peek_ended().expect("no error"), None);
}

#[test]
fn grace_is_rounded_up() {
    let cases = [(0, 1), (1, 1), (1000, 1), (1001, 2), (30_000, 30)];
    for (millis, seconds) in cases {
        assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds);
    }
    assert_eq!(whole_seconds(Duration::MAX), u32::MAX);
}

#[test]
fn the_descriptor_limit_reaches_the_hard_one() {
    let raised = raise_descriptor_limit().expect("our own limit");
    assert_eq!(
        getrlimit(Resource::RLIMIT_NOFILE).expect("our own limit"),
        (raised, raised)
    );
}

#[test]
fn the_parent_is_known() {
    let parent = parent_pid();
    // No signal comes of it: the parent of the tests outlives them.
    assert!(signal_at_parent_death(parent, libc::SIGCONT).expect("a signal"));
    assert!(!signal_at_parent_death(Pid::from_raw(0), libc::SIGCONT).expect("a signal"));
    assert!(signal_at_parent_death(parent, 1000).is_err());
}
