/**
 * The vendor data for cloud-init: it corrects the network configuration of NetworkManager, and reports that the guest is
 * ready. It is the same for all VMs.
 *
 * The format is a MIME multipart document, so that it adds to the user data and replaces no part of it. cloud-init runs a
 * part of the type `text/cloud-boothook` at every boot (https://docs.cloud-init.io/en/latest/explanation/format.html). In
 * Debian this is before NetworkManager starts. In the Fedora family it is later, so the corrections take effect at the
 * second boot.
 */
import { metadataAddress } from '../network/interface-names.ts';

/**
 * Waits for the result of cloud-init and reports it. The file `result.json` lies in a file system in memory, so it belongs
 * to this boot. cloud-init runs user data at the first boot of a VM, so later boots repeat the stored result; changed user
 * data is ignored. The program uses neither curl nor a URL: with the zone of a link-local address, both fail in some
 * distributions.
 */
const report = `
import hashlib, http.client, json, os, time

INSTANCE = '/var/lib/cloud/instance/'

def first_result():
    with open('/run/cloud-init/result.json') as file:
        return 'failed' if json.load(file)['v1']['errors'] else 'ok'

def result():
    with open(INSTANCE + 'user-data.txt', 'rb') as file:
        data = file.read()
    if not data:
        return 'none'
    digest = hashlib.sha256(data).hexdigest()
    path = INSTANCE + 'ucloud-result.json'
    try:
        with open(path) as file:
            stored = json.load(file)
        return stored['result'] if stored['digest'] == digest else 'ignored'
    except (OSError, ValueError, KeyError, TypeError):
        stored = {'digest': digest, 'result': first_result()}
    with open(path + '.new', 'w') as file:
        json.dump(stored, file)
    os.replace(path + '.new', path)
    return stored['result']

def body():
    try:
        return 'user_data=' + result() + '\\n'
    except (OSError, ValueError, KeyError, TypeError):
        return ''

def reported(text):
    for device in sorted(os.listdir('/sys/class/net')):
        if device == 'lo':
            continue
        try:
            connection = http.client.HTTPConnection('${metadataAddress}%' + device, 80, timeout=5)
            connection.request('POST', '/v1/ready', text)
            if connection.getresponse().status == 204:
                return True
        except (OSError, http.client.HTTPException):
            pass
    return False

# The program waits for states. Python has no other way to wait for a file, and a network announces nothing.
while not os.path.exists('/run/cloud-init/result.json'):
    time.sleep(1)
text = body()
end = time.monotonic() + 300
while not reported(text) and time.monotonic() < end:
    time.sleep(1)
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
