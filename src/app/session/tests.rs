//! Sessions by their cookies, with a clock of the test's own.
