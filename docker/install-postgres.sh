#!/usr/bin/env bash
# Installs PostgreSQL, plpython3u and pgvector: the one place that knows how a
# server for flywheel-db is set up. `make`, the Dockerfile and people call it.
#
#   docker/install-postgres.sh            install what is missing
#   docker/install-postgres.sh --check    print what is missing; exit 1 if anything is
#
# Debian 12 and later, Ubuntu 24.04 and later; as root or through sudo; never
# reads stdin. It does nothing, in well under a second, when all is there.
#
# Where the parts come from:
#   PostgreSQL, plpython3u   the machine's own package sources
#   pgvector                 the same where they have 0.8.0 or later (Debian 13);
#                            otherwise (Debian 12 has none, Ubuntu 24.04 has 0.6.0)
#                            built from the distribution's own source package of a
#                            later suite, found through the machine's own mirror
#                            and checked with the machine's own archive keys; where
#                            the mirror has none, the older package after all.
#
# Environment:
#   PG_MAJOR             PostgreSQL major version to use instead of the one that is
#                        installed or that the distribution ships
#   PGVECTOR_MINIMUM     oldest pgvector to accept, any by default; 0.8.4 asks for a
#                        build where the installed one or the package is older
#   PGVECTOR_SOURCE      directory with pgvector's source to build from, where the
#                        machine's mirror carries no later suite
#   WITH_PLPGSQL_CHECK   set to anything: plpgsql_check too, which the project's own
#                        tests run over every function
#   FLYWHEEL_OS_RELEASE  the os-release file to believe (for tests)
set -euo pipefail

readonly PGVECTOR_MINIMUM="${PGVECTOR_MINIMUM:-0}"
# Iterative index scans, which filtered example retrieval needs, came with 0.8.0.
readonly PGVECTOR_WANTED=0.8.0
# Earlier versions can corrupt an HNSW index during VACUUM.
readonly PGVECTOR_SAFE=0.8.4
readonly PG_MINIMUM=15

say() { printf 'install-postgres: %s\n' "$*" >&2; }
die() {
  printf 'install-postgres: error: %s\n' "$1" >&2
  shift
  if (($#)); then printf '  %s\n' "$@" >&2; fi
  exit 1
}

# version_at_least A B: is version A the same as or later than B?
version_at_least() {
  [[ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" == "$2" ]]
}

# ---------------------------------------------------------------- what is there

# installed_servers: one line "major bindir sharedir libdir" for each PostgreSQL
# that can make a cluster, newest first. Debian keeps every major version in a
# directory of its own; anything else is found through pg_config.
installed_servers() {
  {
    local bin major
    for bin in /usr/lib/postgresql/*/bin; do
      [[ -x "$bin/initdb" ]] || continue
      major="${bin#/usr/lib/postgresql/}"
      major="${major%/bin}"
      echo "$major $bin /usr/share/postgresql/$major /usr/lib/postgresql/$major/lib"
    done
    if command -v pg_config >/dev/null; then
      bin="$(pg_config --bindir)"
      if [[ -x "$bin/initdb" && "$bin" != /usr/lib/postgresql/* ]]; then
        major="$(pg_config --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/')"
        echo "$major $bin $(pg_config --sharedir) $(pg_config --pkglibdir)"
      fi
    fi
  } | sort -rn
}

# vector_version SHAREDIR: the version of pgvector installed there, or nothing.
vector_version() {
  local control="$1/extension/vector.control"
  [[ -r "$control" ]] || return 0
  sed -nE "s/^default_version *= *'([^']*)'.*/\1/p" "$control"
}

# missing_parts MAJOR: one line for each part this major version lacks.
missing_parts() {
  local want="$1" major bin share lib version
  while read -r major bin share lib; do
    [[ "$major" == "$want" ]] || continue
    if [[ ! -e "$share/extension/plpython3u.control" || ! -e "$lib/plpython3.so" ]]; then
      echo "plpython3u for PostgreSQL $want"
    fi
    if [[ -n "${WITH_PLPGSQL_CHECK:-}" && ! -e "$lib/plpgsql_check.so" ]]; then
      echo "plpgsql_check for PostgreSQL $want"
    fi
    version="$(vector_version "$share")"
    if [[ -z "$version" || ! -e "$lib/vector.so" ]]; then
      echo "pgvector for PostgreSQL $want"
    elif ! version_at_least "$version" "$PGVECTOR_MINIMUM"; then
      echo "pgvector $PGVECTOR_MINIMUM or later for PostgreSQL $want (found $version)"
    fi
    return
  done < <(installed_servers)
  echo "PostgreSQL $want"
  echo "plpython3u for PostgreSQL $want"
  echo "pgvector for PostgreSQL $want"
}

# chosen_server: the major version to look at: PG_MAJOR, else the newest installed
# one that is complete, else the newest installed one, else nothing. The private
# server (flywheel_db/server.py) chooses its binaries by the same rule.
chosen_server() {
  if [[ -n "${PG_MAJOR:-}" ]]; then
    echo "$PG_MAJOR"
    return
  fi
  local major rest newest=''
  while read -r major rest; do
    ((major >= PG_MINIMUM)) || continue
    newest="${newest:-$major}"
    if [[ -z "$(missing_parts "$major")" ]]; then
      echo "$major"
      return
    fi
  done < <(installed_servers)
  echo "$newest"
}

warn_if_unsafe() {
  local want="$1" major bin share lib version
  while read -r major bin share lib; do
    [[ "$major" == "$want" ]] || continue
    version="$(vector_version "$share")"
    if ! version_at_least "$version" "$PGVECTOR_WANTED"; then
      say "warning: pgvector $version is installed; before $PGVECTOR_WANTED there are no iterative index scans."
    fi
    if ! version_at_least "$version" "$PGVECTOR_SAFE"; then
      say "warning: pgvector $version is installed; before $PGVECTOR_SAFE, VACUUM can corrupt an HNSW index." \
        "For a later one: PGVECTOR_MINIMUM=$PGVECTOR_SAFE $0"
    fi
    return
  done < <(installed_servers)
}

# ------------------------------------------------------------------ the machine

# read_os_release: sets OS_ID, OS_VERSION, OS_CODENAME, OS_NAME.
read_os_release() {
  local file="${FLYWHEEL_OS_RELEASE:-/etc/os-release}"
  [[ -r "$file" ]] || die "cannot read $file, so the distribution is unknown." "$(by_hand)"
  # In a subshell, because the file is a script that sets names of its own choice.
  # shellcheck disable=SC1090
  IFS='|' read -r OS_ID OS_VERSION OS_CODENAME OS_NAME < <(
    . "$file"
    echo "${ID:-}|${VERSION_ID:-}|${VERSION_CODENAME:-}|${PRETTY_NAME:-${ID:-unknown}}"
  )
}

by_hand() {
  echo "Install by hand: PostgreSQL $PG_MINIMUM or later, its PL/Python (plpython3u), and pgvector" \
    "$PGVECTOR_SAFE or later; put the pg_config of that server on the PATH and run this again."
}

require_supported() {
  read_os_release
  local supported=no
  case "$OS_ID" in
    # Debian testing and unstable carry no version number.
    debian) if [[ -z "$OS_VERSION" ]] || version_at_least "$OS_VERSION" 12; then supported=yes; fi ;;
    ubuntu) if version_at_least "${OS_VERSION:-0}" 24.04; then supported=yes; fi ;;
  esac
  [[ "$supported" == yes ]] || die "$OS_NAME is not supported." \
    "Supported: Debian 12 and later, Ubuntu 24.04 and later." "$(by_hand)"
  command -v apt-get >/dev/null || die "there is no apt-get on this machine." "$(by_hand)"
}

as_root() {
  if ((EUID == 0)); then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "installing packages needs root, and there is no sudo here." "Run this script as root: $0"
  fi
}

# ------------------------------------------------------------------------- apt

# quietly COMMAND...: its output is shown only when it fails.
quietly() {
  if ! "$@" >"$WORK/log" 2>&1; then
    cat "$WORK/log" >&2
    return 1
  fi
}

apt_get() {
  # Never ask, never restart other services, wait for another apt to finish.
  as_root env DEBIAN_FRONTEND="${DEBIAN_FRONTEND:-noninteractive}" NEEDRESTART_MODE=l \
    apt-get -qq -y -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 "$@" </dev/null
}

# candidate PACKAGE: the version apt would install, or nothing.
candidate() {
  LC_ALL=C apt-cache policy "$1" 2>/dev/null | sed -nE 's/^ *Candidate: (.*)/\1/p' | grep -vxF '(none)' || true
}

installed_version() {
  # shellcheck disable=SC2016  # dpkg-query's own placeholders
  dpkg-query -W -f='${db:Status-Abbrev}|${Version}' "$1" 2>/dev/null | sed -nE 's/^.i.?\|(.*)/\1/p' || true
}

update_lists() {
  say "updating the package lists"
  # A broken third-party source makes this fail although the lists that matter
  # arrived, so what counts is whether the packages can be found afterwards. The
  # second try is for another apt that held the lock on the lists.
  quietly apt_get update || { sleep 3 && quietly apt_get update; } ||
    say "warning: some package lists could not be fetched; going on with the others"
}

# install_packages PACKAGE...: already installed ones are left as they are.
install_packages() {
  local package missing=()
  for package in "$@"; do
    if [[ -z "$(installed_version "${package%%=*}")" ]]; then missing+=("$package"); fi
  done
  ((${#missing[@]})) || return 0
  say "installing ${missing[*]}"
  if ! quietly apt_get install --no-install-recommends "${missing[@]}"; then
    # Old lists name files the mirror has since replaced: once more with new ones.
    update_lists
    quietly apt_get install --no-install-recommends "${missing[@]}" ||
      die "apt-get could not install ${missing[*]}; its own message is above."
  fi
}

# distribution_major: the PostgreSQL the distribution ships, from its metapackage.
distribution_major() {
  LC_ALL=C apt-cache depends postgresql 2>/dev/null | sed -nE 's/^ *Depends: postgresql-([0-9]+)$/\1/p' | head -n 1 || true
}

# package_major: the major version to install packages for.
package_major() {
  if [[ -n "${PG_MAJOR:-}" ]]; then
    echo "$PG_MAJOR"
    return
  fi
  local major rest
  while read -r major rest; do
    if ((major >= PG_MINIMUM)) && [[ -n "$(installed_version "postgresql-$major")" ]]; then
      echo "$major"
      return
    fi
  done < <(installed_servers)
  distribution_major
}

# Debian's packages make a system-wide cluster and start it when PostgreSQL is new
# on the machine. Nobody asked for that: flywheel-db has a private cluster, and a
# second one would sit on port 5432. The setting lives only while packages install.
readonly NO_CLUSTER=/etc/postgresql-common/createcluster.d/zz-flywheel-db.conf
hold_back_system_cluster() {
  as_root mkdir -p "${NO_CLUSTER%/*}"
  echo 'create_main_cluster = false' | as_root tee "$NO_CLUSTER" >/dev/null
}

# fitting PACKAGE MAJOR: PACKAGE at the minor version of the installed server, where
# apt has it. PL/Python wants exactly that, and this way a running server is not
# upgraded, and restarted, under its user.
fitting() {
  local version
  version="$(installed_version "postgresql-$2")"
  if [[ -n "$version" ]] && LC_ALL=C apt-cache madison "$1" | grep -F " $version " >/dev/null; then
    echo "$1=$version"
  else
    echo "$1"
  fi
}

install_server() {
  local major="$1"
  if [[ -z "$(installed_version "postgresql-$major")" ]]; then hold_back_system_cluster; fi
  install_packages "postgresql-$major" "$(fitting "postgresql-plpython3-$major" "$major")" \
    ${WITH_PLPGSQL_CHECK:+"postgresql-$major-plpgsql-check"}
  if [[ -e "$NO_CLUSTER" ]]; then as_root rm -f "$NO_CLUSTER"; fi
}

# -------------------------------------------------------- pgvector from source

# derive_source_entries SUITE COMPONENT HERE OUTDIR FILE...: for each package source
# in FILE... (sources.list or *.sources syntax) that carries suite HERE and component
# "main", write into OUTDIR a source of its own that offers the *source packages* of
# SUITE and COMPONENT, and print its name. Address, keys and trust options are the
# machine's own, copied as they stand. Third-party sources may look alike; the caller
# tries one after the other.
derive_source_entries() {
  local suite="$1" component="$2" here="$3" out="$4"
  shift 4
  local file
  for file in "$@"; do
    [[ -r "$file" ]] || continue
    case "$file" in
      *.sources) derive_deb822 "$suite" "$component" "$here" "$out" "$file" ;;
      *) derive_one_line "$suite" "$component" "$here" "$out" "$file" ;;
    esac
  done
}

derive_deb822() {
  awk -v suite="$1" -v component="$2" -v here="$3" -v out="$4" -v base="$(basename "$5")" '
    function has(list, word,   n, i, part) {
      n = split(list, part, /[ \t\n]+/)
      for (i = 1; i <= n; i++) if (part[i] == word) return 1
      return 0
    }
    function finish(   name) {
      # An "Enabled: no" source is one the user has turned off.
      if (value["uris"] != "" && tolower(value["enabled"]) !~ /no|false|off|0|without|disable/ \
          && has(value["suites"], here) && has(value["components"], "main")) {
        name = sprintf("%s/%s-%d.sources", out, base, ++count)
        printf "Types: deb-src\nSuites: %s\nComponents: %s\n%s", suite, component, kept > name
        close(name)
        print name
      }
      split("", value)
      kept = field = ""
    }
    /^#/ { next }
    /^[ \t]*$/ { finish(); next }
    /^[ \t]/ {
      value[field] = value[field] "\n" $0
      if (keep) kept = kept $0 "\n"
      next
    }
    {
      colon = index($0, ":")
      field = tolower(substr($0, 1, colon - 1))
      value[field] = substr($0, colon + 1)
      keep = field !~ /^(types|suites|components|enabled|architectures|languages|targets)(-add|-remove)?$/
      if (keep) kept = kept $0 "\n"
    }
    END { finish() }
  ' "$5"
}

derive_one_line() {
  awk -v suite="$1" -v component="$2" -v here="$3" -v out="$4" -v base="$(basename "$5")" '
    { sub(/#.*/, "") }
    $1 != "deb" && $1 != "deb-src" { next }
    {
      options = ""
      rest = $0
      sub(/^[ \t]*deb(-src)?[ \t]+/, "", rest)
      if (substr(rest, 1, 1) == "[") {
        end = index(rest, "]")
        n = split(substr(rest, 2, end - 2), option, /[ \t]+/)
        for (i = 1; i <= n; i++)
          if (option[i] != "" && option[i] !~ /^(arch|lang|target)[-+]?=/) options = options " " option[i]
        rest = substr(rest, end + 1)
      }
      n = split(rest, word, /[ \t]+/)
      first = word[1] == "" ? 2 : 1
      if (word[first + 1] != here) next
      main = 0
      for (i = first + 2; i <= n; i++) if (word[i] == "main") main = 1
      if (!main) next
      name = sprintf("%s/%s-%d.list", out, base, ++count)
      printf "deb-src %s%s %s %s\n", options == "" ? "" : "[" options " ] ", word[first], suite, component > name
      close(name)
      print name
    }
  ' "$5"
}

# An apt of our own for the source package: its lists, cache and sources are in WORK,
# so the machine's package lists stay as they are and nothing is left behind.
private_apt() {
  local entry="$1"
  shift
  apt-get -qq -y -o Acquire::Retries=3 \
    -o Dir::Etc::sourcelist="$entry" -o Dir::Etc::sourceparts=/dev/null \
    -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
    -o Dir::State::lists="$WORK/lists" -o Dir::Cache="$WORK/cache" \
    -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= "$@" </dev/null
}

new_enough() {
  version_at_least "$1" "$PGVECTOR_WANTED" && version_at_least "$1" "$PGVECTOR_MINIMUM"
}

# source_version: the version of the unpacked source in WORK/source, or nothing.
source_version() {
  sed -nE "s/^default_version *= *'([^']*)'.*/\1/p" "$WORK"/source/*/vector.control 2>/dev/null || true
}

# fetch_vector_source: unpacks the newest pgvector source package that a later suite
# has into WORK/source. Suites are tried from the newest to the most settled; a mirror
# whose index is ahead of its files fails on the first and is good for the second.
# Returns 1 if none has a version that is new enough.
fetch_vector_source() {
  local component suites suite entry file here version files=() list='' parts=''
  eval "$(apt-config shell list Dir::Etc::sourcelist/f parts Dir::Etc::sourceparts/d)"
  for file in "$list" "$parts"*.list "$parts"*.sources; do
    if [[ -f "$file" ]]; then files+=("$file"); fi
  done
  case "$OS_ID" in
    debian) component=main suites='unstable trixie' ;;
    *) component=universe suites='devel resolute' ;;
  esac
  for suite in $suites; do
    # Most machines name their release; some follow it by its role.
    for here in "$OS_CODENAME" stable oldstable; do
      while read -r entry; do
        rm -rf "$WORK/lists" "$WORK/source"
        mkdir -p "$WORK/lists/partial" "$WORK/cache/archives/partial" "$WORK/source"
        # apt downloads as a user of its own when it can.
        if ((EUID == 0)) && id _apt >/dev/null 2>&1; then
          chown _apt "$WORK/lists/partial" "$WORK/cache/archives/partial" "$WORK/source"
        fi
        say "fetching the source package of pgvector from suite $suite"
        if quietly private_apt "$entry" update &&
          (cd "$WORK/source" && quietly private_apt "$entry" source pgvector); then
          version="$(source_version)"
          if [[ -n "$version" ]] && new_enough "$version"; then return 0; fi
        fi
        say "warning: no pgvector that is new enough came from suite $suite"
      done < <(derive_source_entries "$suite" "$component" "$here" "$WORK" "${files[@]}")
    done
  done
  return 1
}

WORK=''
cleanup() {
  if [[ -n "$WORK" ]]; then rm -rf "$WORK"; fi
  if [[ -e "$NO_CLUSTER" ]]; then as_root rm -f "$NO_CLUSTER"; fi
}

build_vector() {
  local major="$1" source options
  source="$(find "$WORK/source" -mindepth 1 -maxdepth 1 -type d)"
  say "building pgvector $(source_version) for PostgreSQL $major"
  # OPTFLAGS: the default is -march=native, which breaks a disk image or container
  # that moves to another processor. Bitcode is only for inlining by the JIT.
  options=("PG_CONFIG=/usr/lib/postgresql/$major/bin/pg_config" OPTFLAGS= with_llvm=no)
  quietly make -C "$source" -j "$(nproc)" "${options[@]}" ||
    die "pgvector did not compile; the compiler's message is above."
  quietly as_root make -C "$source" install "${options[@]}" ||
    die "pgvector could not be installed; the message is above."
}

install_vector() {
  local major="$1" package="postgresql-$1-pgvector" version
  version="$(candidate "$package")"
  if [[ -z "${PGVECTOR_SOURCE:-}" && -n "$version" ]] && new_enough "$version"; then
    install_packages "$package"
    return
  fi
  # build-essential brings make, gcc and dpkg-dev, which unpacks source packages.
  install_packages build-essential "$(fitting "postgresql-server-dev-$major" "$major")"
  if [[ -n "${PGVECTOR_SOURCE:-}" ]]; then
    [[ -r "$PGVECTOR_SOURCE/vector.control" ]] || die "PGVECTOR_SOURCE=$PGVECTOR_SOURCE holds no vector.control."
    mkdir "$WORK/source"
    cp -r "$PGVECTOR_SOURCE" "$WORK/source/pgvector"
    build_vector "$major"
  elif fetch_vector_source; then
    build_vector "$major"
  elif [[ -n "$version" ]] && version_at_least "$version" "$PGVECTOR_MINIMUM"; then
    say "warning: taking the distribution's older pgvector instead"
    install_packages "$package"
  else
    die "found no source of pgvector that is new enough for $OS_NAME." \
      "No package source of this machine for '$OS_CODENAME' leads to a mirror with a later suite that has it." \
      "Unpack the source of pgvector $PGVECTOR_SAFE or later somewhere and run" \
      "PGVECTOR_SOURCE=that-directory $0"
  fi
}

# ------------------------------------------------------------------------- main

usage() { sed -n '2,/^set -euo/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }

main() {
  local check=no major missing
  case "${1:-}" in
    '') ;;
    --check) check=yes ;;
    -h | --help)
      usage
      return
      ;;
    *) die "unknown argument: $1" "Usage: $0 [--check]" ;;
  esac
  if [[ -n "${PG_MAJOR:-}" ]] && ! [[ "$PG_MAJOR" =~ ^[0-9]+$ && "$PG_MAJOR" -ge "$PG_MINIMUM" ]]; then
    die "PG_MAJOR is '$PG_MAJOR'; it has to be a major version of PostgreSQL, $PG_MINIMUM or later."
  fi

  major="$(chosen_server)"
  if [[ -n "$major" ]]; then
    missing="$(missing_parts "$major")"
  else
    missing="$(printf '%s\n' "PostgreSQL $PG_MINIMUM or later" plpython3u pgvector)"
  fi
  if [[ -z "$missing" ]]; then
    warn_if_unsafe "$major"
    say "PostgreSQL $major with plpython3u and pgvector is installed"
    return
  fi
  if [[ "$check" == yes ]]; then
    while IFS= read -r line; do echo "missing: $line"; done <<<"$missing"
    return 1
  fi

  require_supported
  trap cleanup EXIT
  WORK="$(mktemp -d)"
  chmod 0755 "$WORK" # apt downloads as a user of its own, into directories below
  # One at a time: a second run waits, then finds everything in place.
  exec 9<"${BASH_SOURCE[0]}"
  flock 9

  major="$(package_major)"
  if [[ -z "$major" || -z "$(candidate "postgresql-$major")" || -z "$(candidate "postgresql-plpython3-$major")" ]]; then
    update_lists
    major="$(package_major)"
  fi
  if [[ -z "$major" || -z "$(candidate "postgresql-plpython3-$major")" ]]; then
    die "the package sources of this machine have no PostgreSQL ${major:-server} with PL/Python." \
      "Look at what apt-get update says above; on Ubuntu, plpython3 is in the component 'universe'."
  fi
  ((major >= PG_MINIMUM)) || die "the package sources offer PostgreSQL $major; $PG_MINIMUM or later is needed."
  install_server "$major"
  if [[ "$(missing_parts "$major")" == *pgvector* ]]; then
    install_vector "$major"
  fi

  missing="$(missing_parts "$major")"
  [[ -z "$missing" ]] || die "still missing after the installation: ${missing//$'\n'/, }."
  warn_if_unsafe "$major"
  say "PostgreSQL $major with plpython3u and pgvector is installed"
}

# Sourced by its tests, which call single functions.
if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then main "$@"; fi
