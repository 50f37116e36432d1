/**
 * A bill in UBL 2.1, by EN 16931. It is an XRechnung if the seller has a telephone number, which XRechnung demands, and a plain
 * EN 16931 document otherwise.
 */
import type { BillBuyer, BillDocument, BillLine, BillParty, BillVat } from '../../model/billing/bill-document.ts';
import {
  isOutsideScope,
  isXrechnung,
  lineNote,
  paymentCode,
  paymentTerms,
  percentOf,
  plainProfile,
  reasonCodeOf,
  referenceOf,
  registrationOf,
  renderable,
  typeCode,
  xrechnungProfile,
} from './semantics.ts';
import { leaf, leafIf, node, type XmlElement, xmlDocument } from './xml.ts';

const urn = 'urn:oasis:names:specification:ubl:schema:xsd:';

/** Returns the XML of the bill in UBL. @throws RangeError for a document that is no correct bill */
export function renderUbl(document: BillDocument): string {
  const bill = renderable(document);
  const root = bill.kind === 'bill' ? 'Invoice' : 'CreditNote';
  const amount = (name: string, value: string) => leaf(name, value, { currencyID: bill.currency });
  const { seller, buyer, totals, corrects } = bill;
  const hasNumbers = !isOutsideScope(bill);
  const body = node(
    root,
    leaf('cbc:CustomizationID', isXrechnung(bill) ? xrechnungProfile : plainProfile),
    leaf('cbc:ProfileID', 'urn:fdc:peppol.eu:2017:poacc:billing:01:1.0'),
    leaf('cbc:ID', bill.number),
    leaf('cbc:IssueDate', bill.issue_date),
    bill.kind === 'bill' ? leaf('cbc:DueDate', bill.due_date) : undefined,
    leaf(`cbc:${root}TypeCode`, typeCode(bill)),
    // UBL repeats notes, and EN 16931 allows one.
    leafIf('cbc:Note', bill.notes.join('\n')),
    leaf('cbc:DocumentCurrencyCode', bill.currency),
    leaf('cbc:BuyerReference', referenceOf(bill)),
    node('cac:InvoicePeriod', leaf('cbc:StartDate', bill.period.from), leaf('cbc:EndDate', bill.period.to)),
    corrects &&
      node(
        'cac:BillingReference',
        node(
          'cac:InvoiceDocumentReference',
          leaf('cbc:ID', corrects.number),
          leaf('cbc:IssueDate', corrects.issue_date),
        ),
      ),
    node('cac:AccountingSupplierParty', partyOf(seller, hasNumbers, registrationOf(bill), contactOf(bill))),
    node('cac:AccountingCustomerParty', partyOf(buyer, hasNumbers, undefined, undefined)),
    node(
      'cac:PaymentMeans',
      leaf('cbc:PaymentMeansCode', paymentCode(bill)),
      leaf('cbc:PaymentID', bill.number),
      seller.iban === undefined
        ? undefined
        : node(
            'cac:PayeeFinancialAccount',
            leaf('cbc:ID', seller.iban),
            leaf('cbc:Name', seller.legal_name),
            seller.bic === undefined ? undefined : node('cac:FinancialInstitutionBranch', leaf('cbc:ID', seller.bic)),
          ),
    ),
    node('cac:PaymentTerms', leaf('cbc:Note', paymentTerms(bill))),
    node(
      'cac:TaxTotal',
      amount('cbc:TaxAmount', totals.vat),
      bill.vat_groups.map((group) =>
        node(
          'cac:TaxSubtotal',
          amount('cbc:TaxableAmount', group.base),
          amount('cbc:TaxAmount', group.amount),
          category('cac:TaxCategory', group, true),
        ),
      ),
    ),
    node(
      'cac:LegalMonetaryTotal',
      amount('cbc:LineExtensionAmount', totals.net),
      amount('cbc:TaxExclusiveAmount', totals.net),
      amount('cbc:TaxInclusiveAmount', totals.gross),
      totals.prepaid === undefined ? undefined : amount('cbc:PrepaidAmount', totals.prepaid),
      amount('cbc:PayableAmount', totals.due),
    ),
    bill.lines.map((line) => lineOf(line, bill)),
  );
  return xmlDocument({
    ...body,
    attributes: {
      xmlns: `${urn}${root}-2`,
      'xmlns:cac': `${urn}CommonAggregateComponents-2`,
      'xmlns:cbc': `${urn}CommonBasicComponents-2`,
    },
  });
}

function lineOf(line: BillLine, { kind, currency }: BillDocument): XmlElement {
  const [name, quantity] =
    kind === 'bill' ? ['cac:InvoiceLine', 'cbc:InvoicedQuantity'] : ['cac:CreditNoteLine', 'cbc:CreditedQuantity'];
  return node(
    name,
    leaf('cbc:ID', line.id),
    leaf(quantity, line.quantity, { unitCode: line.unit.code }),
    leaf('cbc:LineExtensionAmount', line.net, { currencyID: currency }),
    node(
      'cac:Item',
      leafIf('cbc:Description', lineNote(line)),
      leaf('cbc:Name', line.description),
      category('cac:ClassifiedTaxCategory', line.vat, false),
    ),
    node('cac:Price', leaf('cbc:PriceAmount', line.unit_price, { currencyID: currency })),
  );
}

const category = (name: string, vat: BillVat, isGroup: boolean) =>
  node(
    name,
    leaf('cbc:ID', vat.category),
    leafIf('cbc:Percent', isGroup ? vat.rate : percentOf(vat)),
    isGroup ? leafIf('cbc:TaxExemptionReasonCode', reasonCodeOf(vat)) : undefined,
    isGroup ? leafIf('cbc:TaxExemptionReason', vat.reason) : undefined,
    node('cac:TaxScheme', leaf('cbc:ID', 'VAT')),
  );

const contactOf = ({ seller }: BillDocument) =>
  node(
    'cac:Contact',
    leaf('cbc:Name', seller.legal_name),
    leafIf('cbc:Telephone', seller.phone),
    leaf('cbc:ElectronicMail', seller.email),
  );

const partyOf = (
  party: BillParty | BillBuyer,
  hasNumbers: boolean,
  registration: string | undefined,
  contact: XmlElement | undefined,
) =>
  node(
    'cac:Party',
    leaf('cbc:EndpointID', party.email, { schemeID: 'EM' }),
    node(
      'cac:PostalAddress',
      leaf('cbc:StreetName', party.street),
      leaf('cbc:CityName', party.city),
      leaf('cbc:PostalZone', party.postcode),
      node('cac:Country', leaf('cbc:IdentificationCode', party.country)),
    ),
    party.vat_number === undefined || !hasNumbers
      ? undefined
      : node(
          'cac:PartyTaxScheme',
          leaf('cbc:CompanyID', party.vat_number),
          node('cac:TaxScheme', leaf('cbc:ID', 'VAT')),
        ),
    node('cac:PartyLegalEntity', leaf('cbc:RegistrationName', party.legal_name), leafIf('cbc:CompanyID', registration)),
    contact,
  );
