//! The whole program from outside: the real binary, on ports of its own, by its contract.
//!
//! `support` runs it, `turns` says beside whom, `lines` what it says, `steered` one with a control
//! socket, `client` talks to it, `watch` looks at its processes, `network` has machines of its own,
//! `load` and `traffic` keep many connections busy, `node` runs programs of Node and `node_load` asks them,
//! `generator` is our load generator and `plain_server` what it is held against; each other file is a part of the contract. Tests
//! wait for lines and states, never for a time, and leave nothing behind.

#![allow(clippy::unwrap_used)] // In helpers of tests as in tests: the caller is who failed.

mod belonging;
mod changes;
mod client;
mod compare;
mod config;
mod control;
mod crash;
mod curl;
mod dashboard;
mod descriptors;
mod edge;
mod endings;
mod events;
mod examples;
mod experiment;
mod fairness;
mod files;
mod generator;
mod idle;
mod kills;
mod lines;
mod listen;
mod load;
mod loadtest;
mod loadtest_asks;
mod loadtest_cli;
mod loadtest_cluster;
mod loadtest_faults;
mod loadtest_pages;
mod loadtest_rate;
mod loadtest_steers;
#[cfg(feature = "redis")]
mod machines;
mod manual;
mod manual_compare;
mod manual_loadtest;
mod manual_start;
mod modes;
#[cfg(feature = "redis")]
mod network;
mod node;
mod node_apps;
mod node_cluster;
mod node_hostile;
mod node_listens;
mod node_load;
mod node_majors;
mod node_preload;
mod node_upgrade;
mod notify;
mod pages;
mod paused;
mod peeks;
mod plain_server;
mod policies;
mod programs_sockets;
mod python_apps;
mod recycle;
#[cfg(feature = "redis")]
mod redis;
mod routes;
mod service;
mod session;
mod slow;
mod standstill;
mod start;
mod start_beside;
mod start_files;
mod steer;
mod steered;
mod sticky;
mod sticky_kernel;
mod stop;
mod support;
#[cfg(feature = "redis")]
#[path = "../support_redis.rs"]
mod support_redis;
mod tidy;
mod traffic;
mod turns;
mod upgrade;
mod usage;
mod watch;
mod webdriver;
mod websocket;
mod ws;
