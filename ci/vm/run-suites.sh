#!/usr/bin/env bash
# run-suites.sh LOGS: runs the test programs that ci/vm.sh lists, in its machine, as the user; the exit code says whether all
# passed.
#
# Reads /run/vm/suites (NAME PATH ARGUMENTS, a line each) and /run/vm/packages; leaves each program's whole output in
# /run/vm/LOGS. Prints one line for each program, what the failed ones said, what was left to runs on other machines
# (root's part, compilers), and at the end a line as libtest's, in which that is not counted.
set -Eeuo pipefail

readonly exchange=/run/vm logs=/run/vm/$1 limit_seconds=900
export RCC_TEST_SKIP_LOG=$logs/skips
# Every program of every package on the disk must be found.
RCC_TEST_REQUIRE=${RCC_TEST_REQUIRE:+$RCC_TEST_REQUIRE,}not-root,userns,limits,systemd-scope$(awk '
	FNR == NR { here[$1]; next }
	$2 in here && $3 != "-" { printf ",%s", $3 }' "$exchange/packages" ci/packages.txt)
RCC_TESTKIT_BIN_DIR=$PWD/target/debug
# Nothing here has KVM.
RCC_TEST_PATIENCE=20
export RCC_TEST_PATIENCE RCC_TEST_REQUIRE RCC_TESTKIT_BIN_DIR
failed_suites=()

# A machine that is kept has those of the last time.
rm -f -- "$logs"/*.log
: >"$RCC_TEST_SKIP_LOG"
while read -r name path arguments; do
	log=$logs/$name.log
	crate=$(echo crates/*/tests/"$name.rs")
	start=$SECONDS status=0
	# Where cargo would start it; the arguments are words of a table of ours.
	# shellcheck disable=SC2086
	(cd "${crate%/tests/*}" && timeout --kill-after=10 "$limit_seconds" "$OLDPWD/$path" $arguments) \
		</dev/null >"$log" 2>&1 || status=$?
	result=$(sed -n 's/^test result: [a-zA-Z]*\. \([^;]*; [^;]*\);.*/\1/p' "$log")
	printf '%-16s %4d s  %s\n' "$name" $((SECONDS - start)) "${result:-ended with $status before its result}"
	if [[ $status -ne 0 ]]; then
		failed_suites+=("$name")
		[[ -n $result ]] || echo "test result: FAILED. 0 passed; 1 failed;" >>"$log"
	fi
done <"$exchange/suites"

sed 's/^SKIPPED /left to other runs: /' "$RCC_TEST_SKIP_LOG"
# Between these two lines, as `cargo xtask test` has it: `.ci/run` repeats it at its end.
if [[ ${#failed_suites[@]} -ne 0 ]]; then
	echo "failed tests:"
	for name in "${failed_suites[@]}"; do
		echo "  == $name =="
		{ sed -n '/^failures:$/,/^failures:$/p' "$logs/$name.log" | grep . || tail -n 60 "$logs/$name.log"; } |
			head -n 200 | sed 's/^/  /'
	done
fi
cat "$logs"/*.log | awk -v left="$(wc -l <"$RCC_TEST_SKIP_LOG")" '
	/^test result: / {
		for (i = 1; i < NF; i++) {
			if ($(i + 1) == "passed;") passed += $i
			if ($(i + 1) == "failed;") failed += $i
		}
	}
	END {
		printf "tests: %d passed, %d failed, %d left to other runs\n", passed - left, failed, left
		printf "test result: %s. %d passed; %d failed;\n", failed ? "FAILED" : "ok", passed - left, failed
	}'
[[ ${#failed_suites[@]} -eq 0 ]]
