#!/bin/sh
# structure.sh RULE [TREE]: holds the tree to the house rules of CONTRIBUTING.md that a machine can check.
#   layers     who may include whom, and which library is seen where
#   quiet      only cli/ prints and exits
#   text       file sizes, blanks at line ends, notes to self, final newline
#   functions  function sizes (needs universal-ctags)
#   format     clang-format leaves every source as it is (needs clang-format 14)
#   self-test  plants one fault per rule in a copy of a small tree and expects each to be found
# Exit status: 0 clean, 1 violations, which are printed as file:line: text, 77 skipped for want of a tool.
set -u
LC_ALL=C
export LC_ALL

max_file_lines=600
max_function_lines=80

sources() {
    for folder in core sim backend cli tests; do
        [ ! -d "$folder" ] || find "$folder" -type f \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cpp' \)
    done | sort
}

texts() {
    sources
    for folder in cmake docs scenarios topologies rules plots tests cli sim backend core .ci; do
        [ ! -d "$folder" ] || find "$folder" -type f \( -name '*.cmake' -o -name '*.md' -o -name '*.yaml' -o -name '*.gp' -o \
            -name '*.sh' -o -name 'CMakeLists.txt' -o -path '.ci/run' \)
    done | grep -v '^tests/errors/' | sort
    ls CMakeLists.txt CMakePresets.json bootstrap README.md CONTRIBUTING.md .clang-format .clang-tidy 2>/dev/null
}

# Prints violations; the caller sees a failure when there is any output.
layers() {
    sources | xargs awk '
    BEGIN {
        split("assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign " \
              "stdarg stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string tgmath threads time uchar " \
              "wchar wctype dirent dlfcn fcntl poll pthread sched strings unistd sys/mman sys/prctl sys/resource sys/signalfd sys/stat sys/time " \
              "sys/types sys/utsname sys/wait", words, " ")
        for (i in words)
            standard[words[i] ".h"] = 1
        # Which files may see which library: prefix of the header, pattern of the file.
        library["simgrid/"] = "^sim/"
        library["gsl/"] = "^core/stats\\."
        library["cblas.h"] = "^backend/host/"
        library["mpi.h"] = "^backend/mpi/"
        library["jansson.h"] = "^cli/|^tests/"
        library["yaml.h"] = "^core/doc\\."
        library["zlib.h"] = "^core/gzip\\."
        library["expat.h"] = "^core/xml\\."
        library["cuda_"] = "^backend/cuda/|^tests/(cuda_double/|test_cuda)"
        library["nvtx3/"] = "^backend/cuda/nvtx\\."
        library["new"] = library["tuple"] = library["ucontext.h"] = "^tests/cuda_double/"
        library["cmocka.h"] = "^tests/"
        # Which folders a folder may include from, itself aside.
        sees["core"] = " "
        sees["sim"] = " core "
        sees["backend"] = " core "
        sees["cli"] = " core sim backend "
        sees["tests"] = " core sim backend cli "
    }
    function report(text) { printf "%s:%d: %s\n", FILENAME, FNR, text }
    # The folder of the tree that a quoted header comes from; empty: that of the including file.
    function target_of(header,    path) {
        path = header
        sub(/^(\.\.\/)+/, "", path)
        return path ~ /^(core|sim|backend|cli|tests)\// ? substr(path, 1, index(path, "/") - 1) : ""
    }
    /^[ \t]*#[ \t]*include/ {
        folder = substr(FILENAME, 1, index(FILENAME, "/") - 1)
        if (match($0, /"[^"]*"/)) {
            target = target_of(substr($0, RSTART + 1, RLENGTH - 2))
            if (target != "" && target != folder && index(sees[folder], " " target " ") == 0)
                report(folder "/ may not include from " target "/")
        } else if (match($0, /<[^>]*>/)) {
            header = substr($0, RSTART + 1, RLENGTH - 2)
            if (header in standard)
                next
            known = 0
            for (prefix in library)
                if (index(header, prefix) == 1) {
                    known = 1
                    if (FILENAME !~ library[prefix])
                        report("<" header "> may not be seen here")
                }
            if (!known)
                report("<" header "> is neither standard nor a library listed in tests/structure.sh")
        } else {
            report("an include by macro hides what it includes")
        }
    }'
}

quiet() {
    sources | grep -E '^(core|sim|backend)/' | xargs awk '
    /(^|[^_[:alnum:]])(printf|puts|putchar|perror|exit|quick_exit)[ \t]*\(/ || /(^|[^_[:alnum:]])(stdout)([^_[:alnum:]]|$)/ {
        line = $0
        sub(/^[ \t]*/, "", line)
        if (line !~ /^(\*|\/\*|\/\/)/ && line !~ /__attribute__/)
            printf "%s:%d: only cli/ prints or exits\n", FILENAME, FNR
    }'
}

text() {
    # The words are split so that this file does not find itself.
    texts | xargs awk -v limit="$max_file_lines" -v notes='(^|[^[:alnum:]])(TO''DO|FIX''ME|X''XX|HA''CK)([^[:alnum:]]|$)' '
    function close_file() { if (lines > limit && name !~ /\.md$/) printf "%s:%d: more than %d lines\n", name, lines, limit }
    FNR == 1 { close_file(); name = FILENAME }
    { lines = FNR }
    /[ \t\r]$/ { printf "%s:%d: blank at the end of the line\n", FILENAME, FNR }
    /\t/ { printf "%s:%d: tab\n", FILENAME, FNR }
    $0 ~ notes { printf "%s:%d: note to self\n", FILENAME, FNR }
    END { close_file() }'
    for file in $(texts); do
        [ ! -s "$file" ] || [ -z "$(tail -c 1 "$file")" ] || printf '%s:1: no newline at the end of the file\n' "$file"
    done
}

functions() {
    ctags --version 2>/dev/null | grep -q 'Universal Ctags' || {
        printf 'skipped: universal-ctags is not installed\n'
        exit 77
    }
    sources | ctags -L - --languages=C,C++ --langmap=C:.c.h,C++:.cu.cuh.cpp --kinds-C=f --kinds-C++=f --fields=+ne -f - 2>/dev/null |
        awk -F '\t' -v limit="$max_function_lines" '
        {
            start = end = 0
            for (i = 4; i <= NF; i++) {
                if ($i ~ /^line:/) start = substr($i, 6)
                if ($i ~ /^end:/) end = substr($i, 5)
            }
            if (end && end - start + 1 > limit)
                printf "%s:%d: %s has %d lines, more than %d\n", $2, start, $1, end - start + 1, limit
        }'
}

format() {
    clang-format --version 2>/dev/null | grep -q 'version 14\.' || {
        printf 'skipped: clang-format 14 is not installed\n'
        exit 77
    }
    sources | xargs -n 8 clang-format --dry-run 2>&1 | grep 'warning: code should be clang-formatted' |
        awk -F: '!seen[$1]++ { printf "%s:%d: not as clang-format would have it (cmake --build build/dev --target format)\n", $1, $2 }'
}

# run_rule RULE: status 0 without, 1 with violations.
run_rule() {
    output=$("$1")
    status=$?
    [ -z "$output" ] || printf '%s\n' "$output"
    [ "$status" -ne 77 ] || return 77
    [ -z "$output" ] && [ "$status" -eq 0 ]
}

# expect RULE FILE CONTENT: the rule is silent on the tree without FILE and names FILE with it.
expect() {
    if found=$(run_rule "$1") && [ -z "$found" ]; then :; else
        printf 'self-test: %s complains about a clean tree: %s\n' "$1" "$found"
        return 1
    fi
    mkdir -p "$(dirname "$2")"
    printf '%b' "$3" >"$2"
    found=$(run_rule "$1")
    rm -f "$2"
    case $found in
    "$2:"*) ;;
    *)
        printf 'self-test: %s did not find the fault in %s: %s\n' "$1" "$2" "$3"
        return 1
        ;;
    esac
}

self_test() {
    scratch=$(mktemp -d) || exit 1
    trap 'rm -rf "$scratch"' EXIT
    cp .clang-format "$scratch" && cd "$scratch" || exit 1
    mkdir -p core sim cli tests
    printf '#include "base.h"\n\n#include <stdio.h>\n\nint f(int a);\n' >core/plan.h
    printf '#include "core/plan.h"\n#include <simgrid/engine.h>\n' >sim/a.c
    printf '#include "sim/sim.h"\n#include <jansson.h>\n' >cli/b.c
    printf '#include <gsl/gsl_rng.h>\n' >core/stats.c
    printf '#include <cmocka.h>\n' >tests/test_a.c
    bad=0
    expect layers core/x.c '#include "sim/sim.h"\n' || bad=1
    expect layers core/x.c '#include "../cli/cli.h"\n' || bad=1
    expect layers sim/x.c '#include "backend/host.h"\n' || bad=1
    expect layers backend/x.c '#include "../sim/sim.h"\n' || bad=1
    expect layers core/schedules/x.c '#include "cli/cli.h"\n' || bad=1
    expect layers cli/x.c '#include <simgrid/engine.h>\n' || bad=1
    expect layers core/x.c '#include <gsl/gsl_spline.h>\n' || bad=1
    expect layers core/x.c '#include <jansson.h>\n' || bad=1
    expect layers backend/x.c '#include <cblas.h>\n' || bad=1
    expect layers backend/x.c '#include <cuda_runtime_api.h>\n' || bad=1
    expect layers core/x.c '#include <yaml.h>\n' || bad=1
    expect layers core/x.c '#include <expat.h>\n' || bad=1
    expect layers cli/x.c '#include <curl/curl.h>\n' || bad=1
    expect layers core/x.c '#define H "a.h"\n#include H\n' || bad=1
    expect quiet core/x.c 'void f(void)\n{\n    printf("x");\n}\n' || bad=1
    expect quiet sim/x.c 'void f(void)\n{\n    exit(1);\n}\n' || bad=1
    expect text core/x.c 'int a; \n' || bad=1
    expect text core/x.c 'int a;' || bad=1
    expect text core/x.c '\tint a;\n' || bad=1
    expect text core/x.c '/* FIX''ME later */\n' || bad=1
    expect text core/x.c "$(awk -v n="$max_file_lines" 'BEGIN { for (i = 0; i <= n; i++) printf "int a%d;\\n", i }')" || bad=1
    if ctags --version 2>/dev/null | grep -q 'Universal Ctags'; then
        expect functions core/x.c "void f(void)\n{\n$(awk -v n="$max_function_lines" 'BEGIN { while (n--) printf ";\\n" }')}\n" || bad=1
    fi
    if clang-format --version 2>/dev/null | grep -q 'version 14\.'; then
        expect format core/x.c 'int f( int a ){return a;}\n' || bad=1
    fi
    [ "$bad" -eq 0 ]
}

rule=${1:?usage: structure.sh RULE [TREE]}
cd "${2:-$(dirname "$0")/..}" || exit 1
case $rule in
layers | quiet | text | functions | format) run_rule "$rule" ;;
self-test) self_test ;;
*)
    printf 'structure.sh: no rule %s\n' "$rule" >&2
    exit 2
    ;;
esac
