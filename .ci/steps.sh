# Shared by .ci/run and .ci/nightly: steps with a time and a budget in seconds, and the closing line. To be sourced by
# bash, with the budget of the whole run in $budget.
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}

# step NAME BUDGET COMMAND…: runs the command and prints how long it took beside its budget in seconds, which is for two
# cores. A step that is late does not fail, because machines differ; the closing lines show it.
step() {
  local name=$1 budget=$2 start=$SECONDS status=0 took
  shift 2
  printf '\n== %s\n' "$name"
  "$@" || status=$?
  took=$((SECONDS - start))
  printf '%-26s %5d s of %5d s\n' "$name" "$took" "$budget" >>"$results/times"
  if [ $status -eq 0 ]; then
    printf -- '-- %s: done in %d s of %d s\n' "$name" "$took" "$budget"
  else
    printf -- '-- %s: FAILED (exit code %d) after %d s\n' "$name" $status "$took"
    echo "$name" >>"$results/failures"
  fi
  return $status
}

# vitest_counts NAME: adds the counts of vitest's report in $results/NAME.json to those of the closing line.
vitest_counts() {
  node -e '
    const r = JSON.parse(require("fs").readFileSync(process.argv[1]));
    // A file that does not load has no test to fail.
    const broken = r.testResults.filter((file) => file.status === "failed" && file.assertionResults.length === 0).length;
    console.log(r.numPassedTests, r.numFailedTests + broken, r.numPendingTests + r.numTodoTests);
  ' "$results/$1.json" >"$results/$1.count" || echo "0 1 0" >"$results/$1.count"
}

# counted NAME PROGRAM ARGUMENTS…: runs tests whose last line is "…: … passed, … failed", for the closing line.
counted() {
  local name=$1 status=0 counts log=$results/$1.log
  local summary='^[a-z]*: \([0-9]*\) passed, \([0-9]*\) failed$'
  shift
  # If the program does not finish, there is no such line, and it counts as one failed test.
  echo "0 1 0" >"$results/$name.count"
  "$@" >"$log" 2>&1 || status=$?
  grep -v "$summary" "$log"
  counts=$(sed -n "s/$summary/\1 \2 0/p" "$log")
  [ -z "$counts" ] || echo "$counts" >"$results/$name.count"
  return $status
}

# native_tests FOLDER ISA…: builds and runs the native tests, and those of the software device, in the folder of a build
# with HEED_TESTS. heed_test knows the instruction sets, and skips those that the machine lacks.
native_tests() (
  folder=$1 status=0 running=()
  shift
  # If the build fails, it counts as one failed test.
  echo "0 1 0" >"$results/native.count"
  cmake --build "$folder" --target heed_test heed_simulator_test || exit
  rm "$results/native.count"
  # They run at the same time, because none keeps all cores busy.
  counted simulator "$folder/heed_simulator_test" &
  running+=($!)
  for isa in "$@"; do
    counted "native-$isa" "$folder/heed_test" --isa "$isa" &
    running+=($!)
  done
  for process in "${running[@]}"; do wait "$process" || status=1; done
  exit $status
)

# node_gyp_build COPY ISAS: runs the build of `npm install` in a copy of the package, because node-gyp would replace
# build/, for "all" instruction sets or only the "portable" one. There is no nvcc: the addon must build, load and report
# that. None of its kernels runs, so -O0, which follows binding.gyp's -O3, saves most of the time.
node_gyp_build() {
  local copy=$1 isas=$2
  mkdir "$copy" &&
    cp -r native scripts binding.gyp package.json "$copy" &&
    ln -s "$PWD/node_modules" "$copy/node_modules" || return
  local headers
  headers=$(dirname "$(dirname "$(readlink -f "$(command -v node)")")")
  [ -f "$headers/include/node/node_api.h" ] && export npm_config_nodedir=${npm_config_nodedir:-$headers}
  (cd "$copy" && HEED_NVCC=no-nvcc HEED_ISAS="$isas" CXXFLAGS=-O0 npx --no-install node-gyp rebuild --silent -j "$CMAKE_BUILD_PARALLEL_LEVEL") &&
    node -e "
      const heed = require('node-gyp-build')('$copy');
      console.log('loads:', heed.isa());
      const { problem } = heed.cuda();
      console.log('CUDA:', problem);
      if (!problem.includes('no-nvcc was not found')) process.exitCode = 1;
    "
}

# native_addon COPY [FLAGS]: builds examples/native-addon by node-gyp in a copy, beside heed as an installed package, and
# runs it. FLAGS are for the compiler and the linker; with -fsanitize=address, Node.js runs with its library.
native_addon() {
  local copy=$1 flags=${2:-} headers preload="" root=$PWD
  mkdir -p "$copy/node_modules" && cp examples/native-addon/* "$copy" &&
    ln -s "$PWD" "$copy/node_modules/heed" && ln -s "$PWD/node_modules/node-addon-api" "$copy/node_modules" || return
  headers=$(dirname "$(dirname "$(readlink -f "$(command -v node)")")")
  [ -f "$headers/include/node/node_api.h" ] && export npm_config_nodedir=${npm_config_nodedir:-$headers}
  [ -z "$flags" ] || preload=$(g++ -print-file-name=libasan.so)
  (cd "$copy" && CXXFLAGS="-O0 $flags" LDFLAGS="$flags" "$root/node_modules/.bin/node-gyp" rebuild --silent &&
    LD_PRELOAD=$preload ASAN_OPTIONS=detect_leaks=0:${ASAN_OPTIONS:-} node main.js)
}

# finish: prints the times of all steps and the closing line, and exits with the exit code.
finish() {
  local passed=0 failed=0 skipped=0 p f s
  for file in "$results"/*.count; do
    [ -f "$file" ] || continue
    read -r p f s <"$file"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
  done
  printf '\n'
  [ ! -f "$results/times" ] || cat "$results/times"
  # Less than the sum of its lines, because some steps run beside others.
  printf '%-26s %5d s of %5d s\n' "all" "$SECONDS" "$budget"
  [ ! -f "$results/failures" ] || sed 's/^/failed step: /' "$results/failures"
  if [ "$skipped" -gt 0 ]; then
    printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
  else
    printf '%d passed, %d failed\n' "$passed" "$failed"
  fi
  [ ! -f "$results/failures" ] && [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
  exit
}
