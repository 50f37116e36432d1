#!/bin/sh
# Prepares a fresh clone for `npm run demo` or `npm test`: installs npm packages, and on Debian as root also Debian
# packages. Prints each action, and skips completed actions.
#
#     sh scripts/setup.sh demo|test|npm
set -eu
cd "$(dirname "$0")/.."
purpose=${1:-npm}

say() { printf 'setup: %s\n' "$*"; }

# --- npm packages: they include Node 24, so an older Node on the machine is enough for this script --------------------
lock=$(cksum < package-lock.json)
if [ ! -x node_modules/.bin/node ] || [ "$(cat node_modules/.ucloud-lock 2>/dev/null || true)" != "$lock" ]; then
  say "installing npm packages (about 30 s)"
  log=$(mktemp)
  if ! npm ci --no-audit --no-fund --loglevel=error > "$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    say "npm ci failed; its output is above" >&2
    exit 1
  fi
  rm -f "$log"
  # tap must be built for the plugins in .taprc. Without this, its first run would transpile TypeScript, which Node runs
  # directly.
  PATH="$PWD/node_modules/.bin:$PATH" node_modules/.bin/tap build > /dev/null
  printf '%s\n' "$lock" > node_modules/.ucloud-lock
fi
version=$(node_modules/.bin/node --version 2>/dev/null || echo none)
case "$version" in
  v2[4-9].*|v[3-9][0-9].*) ;;
  *) say "node_modules/.bin/node is $version, but Node 24 or newer is needed: remove node_modules and try again" >&2; exit 1 ;;
esac

# --- the cdktf command, installed only for its test: it has more packages than everything else ------------------------
if [ "$purpose" = test ]; then
  cli=cdk-examples/cli
  lock=$(cksum < "$cli/package-lock.json")
  if [ "$(cat "$cli/node_modules/.ucloud-lock" 2>/dev/null || true)" != "$lock" ]; then
    say "installing the cdktf command (about 30 s)"
    log=$(mktemp)
    if npm ci --prefix "$cli" --ignore-scripts --no-audit --no-fund --loglevel=error > "$log" 2>&1; then
      printf '%s\n' "$lock" > "$cli/node_modules/.ucloud-lock"
    else
      cat "$log" >&2
      say "npm ci of $cli failed; its output is above. Set-up continues; the tests that need cdktf are skipped and say so"
    fi
    rm -f "$log"
  fi
fi

# --- Debian packages -----------------------------------------------------------------------------------------------
# Each entry names a command and the package that contains it.
needs_qemu='qemu-system-x86_64:qemu-system-x86 qemu-img:qemu-utils mkfs.vfat:dosfstools mcopy:mtools ip:iproute2 nft:nftables radvd:radvd ping:iputils-ping conntrack:conntrack
  ssh:openssh-client setpriv:util-linux perl:perl-base mount:mount
  gzip:gzip xz:xz-utils zstd:zstd'
needs_image='mkfs.ext4:e2fsprogs'
needs_test='etcd:etcd-server etcdctl:etcd-client unzip:unzip openssl:openssl curl:curl shellcheck:shellcheck busybox:busybox sysctl:procps
  rdisc6:ndisc6 mmdebstrap:mmdebstrap python3:python3-minimal gpg:gpg gpg-agent:gpg-agent gpgconf:gpgconf zsh:zsh fish:fish sshd:openssh-server
  ceph:ceph-common ceph-mon:ceph-mon ceph-osd:ceph-osd ioping:ioping bird:bird2 pdftoppm:poppler-utils'
case "$purpose" in
  demo) wanted="$needs_qemu $needs_image" ;;
  test) wanted="$needs_qemu $needs_image $needs_test" ;;
  *) wanted='' ;;
esac
missing=''
for pair in $wanted; do
  PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" > /dev/null 2>&1 || missing="$missing ${pair#*:}"
done
if [ "$purpose" = test ]; then
  # These packages contain no command.
  [ -e /usr/share/OVMF/OVMF_CODE_4M.fd ] || missing="$missing ovmf"
  ls /usr/lib/*/qemu/block-rbd.so > /dev/null 2>&1 || missing="$missing qemu-block-extra"
  python3 -c 'import yaml' 2> /dev/null || missing="$missing python3-yaml"
fi
missing=$(printf '%s\n' $missing | sort -u | tr '\n' ' ' | sed 's/ $//')
if [ -n "$missing" ]; then
  if command -v apt-get > /dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    say "installing Debian packages: $missing"
    apt-get update -qq
    # Debian starts a bird of the whole machine at its installation. Hosts of ucloud start their own, so this one must
    # neither run now nor after the next boot.
    unit=/etc/systemd/system/bird.service
    case " $missing " in
      *' bird2 '*) [ -e "$unit" ] || { mkdir -p "${unit%/*}" && ln -s /dev/null "$unit" && masked=yes; } ;;
    esac
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing > /dev/null
    if [ "${masked:-}" = yes ]; then
      rm -f "$unit"
      ! command -v systemctl > /dev/null 2>&1 || systemctl disable --quiet bird.service > /dev/null 2>&1 || true
    fi
    say "Debian packages are in place"
  else
    say "missing on this machine: $missing"
    if command -v apt-get > /dev/null 2>&1; then
      say "  install them with: sudo apt-get install --no-install-recommends $missing"
    else
      say "  install the equivalents of these Debian packages with your system's package manager"
    fi
    say "  set-up continues; tests that need them are skipped or simulated and say so"
  fi
fi

# apt downloads the packages of the guest image, so it needs the package lists.
if [ "$purpose" != npm ] && [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null 2>&1 &&
  ! ls /var/lib/apt/lists/*_Packages* > /dev/null 2>&1; then
  say "fetching the lists of Debian packages"
  apt-get update -qq
fi

# --- Terraform -------------------------------------------------------------------------------------------------------
if [ "$purpose" != npm ] && ! command -v terraform > /dev/null 2>&1; then
  say "Terraform is missing. ucloud needs 1.11 or newer: https://developer.hashicorp.com/terraform/install"
  say "  (unpack the one file of the zip into a folder of your PATH)"
fi

# --- generated code ----------------------------------------------------------------------------------------------------
generated=$(TF_CLI_CONFIG_FILE=/dev/null node_modules/.bin/node scripts/generate.ts --if-stale)
[ -z "$generated" ] || say "generated $(printf '%s\n' "$generated" | wc -l) files from openapi.yaml"
