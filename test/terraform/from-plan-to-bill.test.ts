/**
 * From the plan to the bill: Terraform creates three VMs with prices, and destroys them. Each millisecond is charged once, in the
 * preliminary bill, in the final one, and in its documents.
 */
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { startBilling } from '../../backend/billing/start.ts';
import { monthOf } from '../../backend/model/billing/rating.ts';
import { startTestCloud } from '../support/cloud.ts';
import { brokenRules, schemaProblem } from '../support/en16931.ts';
import { until } from '../support/eventually.ts';
import { demoImage } from '../support/hcl.ts';
import { swissCompany } from '../support/legal-person.ts';
import { noPoppler } from '../support/poppler.ts';
import { silentLogger } from '../support/silent-logger.ts';
import { temporaryDirectory } from '../support/stores.ts';
import { terraformMissing } from '../support/terraform.ts';

const run = promisify(execFile);
const poppler = await noPoppler();

const configuration = `${demoImage}
resource "ucloud_prefix" "this" {
  name   = "site"
  length = 56
}
resource "ucloud_network" "this" {
  name   = "web"
  prefix = ucloud_prefix.this.id
}
resource "ucloud_vm" "web" {
  count      = 3
  name       = "web-\${count.index}"
  image      = data.ucloud_image.demo.id
  cpus       = 2
  memory     = "1GiB"
  disk_size  = "1GiB"
  interfaces = [{ network = ucloud_network.this.id }]
}
`;
const bank = { phone: '+41 55 505 62 65', iban: 'CH93 0076 2011 6238 5295 7', registration: 'CHE-107.787.577' };
/** The price of a CPU: 10 CHF for each second. */
const [perHour, centsPerSecond] = ['36000', 1000n];

interface Order {
  readonly object?: string;
  readonly items: readonly { readonly meter: string; readonly quantity: number }[];
  readonly opened_at: string;
  readonly ended_at?: string;
}

const hundredths = (text: string) => BigInt(text.replace('.', ''));

t.test('three VMs, from the plan to the bill', { skip: terraformMissing() ?? poppler }, async (t) => {
  const cloud = await startTestCloud(t);
  const { operator, url, operatorToken, store } = cloud.api;
  const { project } = cloud;
  const entity = await operator.create('legal-entities', {
    ...swissCompany,
    name: 'swiss',
    number_series: 'UC-',
    ...bank,
  });
  const account = await operator.create('billing-accounts', {
    ...{
      ...swissCompany,
      name: 'acme',
      legal_name: 'ACME AG',
      reference: 'Cost centre 7',
      currency: 'CHF',
      legal_entity: entity.id,
    },
  });
  await operator.update('projects', project, { billing_account: account.id });
  const cpu = await operator.create('products', { name: 'cpu', meter: 'vm_cpu', description: 'Virtual processor' });
  await operator.create('prices', { product: cpu.id, currency: 'CHF', amount: perHour, per: 'hour' });
  const setUp = await operator.create('products', { name: 'vm', meter: 'vm', description: 'Set-up of a VM' });
  await operator.create('prices', { product: setUp.id, currency: 'CHF', amount: '7.5', per: 'once' });

  const directory = cloud.configuration(t, configuration);
  const plan = await directory.plan();
  t.match(plan.text, /Warning: Cost of this plan: \+157680000\.00 CHF per month, 22\.50 CHF once/);
  await directory.apply();
  const orders = (await operator.list('orders', `?project=${project}`)).items as unknown as readonly Order[];
  const isVm = ({ items }: Order) => items.some(({ meter }) => meter === 'vm');
  t.equal(orders.filter(isVm).length, 3, 'each VM has an order');
  t.strictSame(await directory.pending(), [], 'a second plan is empty');
  await directory.run('destroy', '-auto-approve', '-no-color');
  t.equal((await operator.list('orders', `?project=${project}`)).items.length, 0, 'no order is open');

  const ended = (await operator.list('ended-orders', `?project=${project}`)).items as unknown as readonly Order[];
  const milliseconds = ended
    .filter(isVm)
    .reduce((sum, { opened_at, ended_at = '' }) => sum + BigInt(Date.parse(ended_at) - Date.parse(opened_at)), 0n);
  const cpuCents = (2n * milliseconds * centsPerSecond + 500n) / 1000n;
  const net = cpuCents + 2250n;
  const preview = (await operator.expect(200, 'GET', `/v1/billing-accounts/${account.id}/preview`)).body;
  const lines = Object(preview).lines as readonly { net: string; description: string }[];
  t.equal(lines.find(({ description }) => /processor/.test(description))?.net.replace('.', ''), String(cpuCents));
  t.equal(hundredths(Object(preview).net), net, 'the preliminary bill is right to the millisecond');
  t.equal(hundredths(Object(preview).vat), (net * 81n + 500n) / 1000n, 'VAT of 8.1 %');

  const later = monthOf(Date.now()).to + 2 * 3_600_000;
  const verifier = { verify: async () => ({ answer: 'unknown' as const, reason: 'nobody asks', at: '' }) };
  const billing = await startBilling({
    ...{ store, logger: silentLogger, now: () => new Date(later), pollMs: 20, verifier },
  });
  t.teardown(() => billing.close());
  const bill = await until('the bill', async () => (await operator.list('bills')).items[0]);
  t.match(bill, {
    number: 'UC-000001',
    net: Object(preview).net,
    vat: Object(preview).vat,
    gross: Object(preview).gross,
  });
  t.equal((await operator.list('bills')).items.length, 1);

  const document = async (format: string) => {
    const response = await fetch(`${url}/v1/bills/${bill.id}/document?format=${format}`, {
      headers: { authorization: `Bearer ${operatorToken}` },
    });
    t.equal(response.status, 200, format);
    return Buffer.from(await response.arrayBuffer());
  };
  const [cii, ubl] = [String(await document('cii')), String(await document('xrechnung'))];
  t.equal(schemaProblem(cii), undefined, 'the XML has the form of CII');
  t.strictSame([brokenRules(cii, 'cii'), brokenRules(ubl, 'ubl')], [[], []], 'and keeps the rules of EN 16931');
  t.match(ubl, /xrechnung_3\.0/, 'the seller has a telephone, so the UBL is an XRechnung');
  const files = temporaryDirectory(t);
  const pdf = join(files, 'bill.pdf');
  writeFileSync(pdf, await document('pdf'));
  const { stdout: text } = await run('pdftotext', ['-layout', pdf, '-']);
  const words = [
    'UC-000001',
    'ACME AG',
    'Virtual processor',
    'Set-up of a VM',
    '8.1',
    'Cost centre 7',
    bank.iban,
    bank.phone,
  ];
  for (const word of words) t.ok(text.replaceAll('\u00a0', ' ').includes(word), `the page shows ${word}`);
  await run('pdftoppm', ['-r', '100', '-png', '-singlefile', pdf, process.env.UCLOUD_PICTURE ?? join(files, 'page')]);
});
