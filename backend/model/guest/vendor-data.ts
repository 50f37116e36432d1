/**
 * The vendor data for cloud-init: it corrects the network configuration of NetworkManager, and reports that the guest is
 * ready. It is the same for all VMs.
 *
 * The format is a MIME multipart document, so that it adds to the user data and replaces no part of it. cloud-init runs a
 * part of the type `text/cloud-boothook` at every boot, before NetworkManager starts
 * (https://docs.cloud-init.io/en/latest/explanation/format.html).
 */
import { metadataAddress } from '../network/interface-names.ts';

/**
 * Reports the result of cloud-init. The file `result.json` lies in a file system of the memory, so it belongs to this
 * boot. The program uses neither curl nor a URL: with the zone of a link-local address, both fail in some distributions.
 */
const report = `
import http.client, json, os, time

def until(seconds, attempt):
    end = time.monotonic() + seconds
    while not attempt() and time.monotonic() < end:
        time.sleep(1)

def finished():
    return os.path.exists('/run/cloud-init/result.json')

def result():
    try:
        with open('/run/cloud-init/result.json') as file:
            if json.load(file)['v1']['errors']:
                return 'failed'
        return 'ok' if os.path.getsize('/var/lib/cloud/instance/user-data.txt') else 'none'
    except (OSError, ValueError, KeyError, TypeError):
        return 'none'

def reported():
    for device in sorted(os.listdir('/sys/class/net')):
        if device == 'lo':
            continue
        try:
            connection = http.client.HTTPConnection('${metadataAddress}%' + device, 80, timeout=5)
            connection.request('POST', '/v1/ready', 'user_data=' + result() + '\\n')
            if connection.getresponse().status == 204:
                return True
        except (OSError, http.client.HTTPException):
            pass
    return False

until(3600, finished)
until(300, reported)
`;

/** /run is mounted without the right to execute files, so an interpreter gets each file as its argument. */
const bootHook = `#!/bin/sh
for file in /etc/NetworkManager/system-connections/cloud-init-*.nmconnection; do
  [ -f "$file" ] || continue
  grep -q '^\\[ipv4\\]' "$file" || printf '\\n[ipv4]\\nmethod=disabled\\n' >> "$file"
done
if [ -d /etc/NetworkManager/conf.d ]; then
  printf '[connection]\\nipv6.addr-gen-mode=0\\nipv6.ip6-privacy=0\\n' > /etc/NetworkManager/conf.d/90-ucloud.conf
fi

python=$(command -v python3 || echo /usr/libexec/platform-python)
mkdir -p /run/ucloud
cat > /run/ucloud/report.py << 'END'${report}END
if [ -d /run/systemd/system ]; then
  cat > /run/systemd/system/ucloud-ready.service << END
[Unit]
Description=Report to ucloud that the guest is ready
[Service]
ExecStart=$python /run/ucloud/report.py
END
  systemctl daemon-reload
  systemctl start --no-block ucloud-ready.service
else
  nohup "$python" /run/ucloud/report.py > /dev/null 2>&1 &
fi
`;

const boundary = '==ucloud-vendor-data==';

/** The document. */
export const vendorData = `Content-Type: multipart/mixed; boundary="${boundary}"
MIME-Version: 1.0

--${boundary}
Content-Type: text/cloud-boothook; charset="utf-8"

${bootHook}
--${boundary}--
`;
