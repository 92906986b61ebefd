"""One module a suite, or a few that share their code; `benchmarks.suite.all_suites` imports them all."""
