/** A bill in CII (UN/CEFACT Cross Industry Invoice D16B), by EN 16931: the XML inside the PDF of Factur-X and ZUGFeRD. */
import type { BillDocument, BillLine, BillParty, BillVat } from '../../model/billing/bill-document.ts';
import {
  isOutsideScope,
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
} from './semantics.ts';
import { leaf, leafIf, node, type XmlElement, xmlDocument } from './xml.ts';

const urn = 'urn:un:unece:uncefact:data:standard:';

const day = (name: string, text: string, prefix = 'udt') =>
  node(name, leaf(`${prefix}:DateTimeString`, text.replaceAll('-', ''), { format: '102' }));

/** Returns the XML of the bill in CII. @throws RangeError for a document that is no correct bill */
export function renderCii(document: BillDocument): string {
  const bill = renderable(document);
  const body = node(
    'rsm:CrossIndustryInvoice',
    node(
      'rsm:ExchangedDocumentContext',
      node('ram:GuidelineSpecifiedDocumentContextParameter', leaf('ram:ID', plainProfile)),
    ),
    node(
      'rsm:ExchangedDocument',
      leaf('ram:ID', bill.number),
      leaf('ram:TypeCode', typeCode(bill)),
      day('ram:IssueDateTime', bill.issue_date),
      bill.notes.map((note) => node('ram:IncludedNote', leaf('ram:Content', note))),
    ),
    node(
      'rsm:SupplyChainTradeTransaction',
      bill.lines.map(lineOf),
      agreement(bill),
      node('ram:ApplicableHeaderTradeDelivery'),
      settlement(bill),
    ),
  );
  return xmlDocument({
    ...body,
    attributes: {
      'xmlns:rsm': `${urn}CrossIndustryInvoice:100`,
      'xmlns:ram': `${urn}ReusableAggregateBusinessInformationEntity:100`,
      'xmlns:qdt': `${urn}QualifiedDataType:100`,
      'xmlns:udt': `${urn}UnqualifiedDataType:100`,
    },
  });
}

const lineOf = (line: BillLine) =>
  node(
    'ram:IncludedSupplyChainTradeLineItem',
    node('ram:AssociatedDocumentLineDocument', leaf('ram:LineID', line.id)),
    node('ram:SpecifiedTradeProduct', leaf('ram:Name', line.description), leafIf('ram:Description', lineNote(line))),
    node(
      'ram:SpecifiedLineTradeAgreement',
      node('ram:NetPriceProductTradePrice', leaf('ram:ChargeAmount', line.unit_price)),
    ),
    node('ram:SpecifiedLineTradeDelivery', leaf('ram:BilledQuantity', line.quantity, { unitCode: line.unit.code })),
    node(
      'ram:SpecifiedLineTradeSettlement',
      node(
        'ram:ApplicableTradeTax',
        leaf('ram:TypeCode', 'VAT'),
        leaf('ram:CategoryCode', line.vat.category),
        leafIf('ram:RateApplicablePercent', percentOf(line.vat)),
      ),
      node('ram:SpecifiedTradeSettlementLineMonetarySummation', leaf('ram:LineTotalAmount', line.net)),
    ),
  );

const agreement = (bill: BillDocument) =>
  node(
    'ram:ApplicableHeaderTradeAgreement',
    leaf('ram:BuyerReference', referenceOf(bill)),
    partyOf('ram:SellerTradeParty', bill.seller, bill, registrationOf(bill), contactOf(bill)),
    partyOf('ram:BuyerTradeParty', bill.buyer, bill, undefined, undefined),
  );

const contactOf = ({ seller }: BillDocument) =>
  node(
    'ram:DefinedTradeContact',
    leaf('ram:PersonName', seller.legal_name),
    seller.phone === undefined
      ? undefined
      : node('ram:TelephoneUniversalCommunication', leaf('ram:CompleteNumber', seller.phone)),
    node('ram:EmailURIUniversalCommunication', leaf('ram:URIID', seller.email)),
  );

const partyOf = (
  name: string,
  party: BillParty,
  bill: BillDocument,
  registration: string | undefined,
  contact: XmlElement | undefined,
) =>
  node(
    name,
    leaf('ram:Name', party.legal_name),
    registration === undefined ? undefined : node('ram:SpecifiedLegalOrganization', leaf('ram:ID', registration)),
    contact,
    node(
      'ram:PostalTradeAddress',
      leaf('ram:PostcodeCode', party.postcode),
      leaf('ram:LineOne', party.street),
      leaf('ram:CityName', party.city),
      leaf('ram:CountryID', party.country),
    ),
    node('ram:URIUniversalCommunication', leaf('ram:URIID', party.email, { schemeID: 'EM' })),
    party.vat_number === undefined || isOutsideScope(bill)
      ? undefined
      : node('ram:SpecifiedTaxRegistration', leaf('ram:ID', party.vat_number, { schemeID: 'VA' })),
  );

const settlement = (bill: BillDocument) =>
  node(
    'ram:ApplicableHeaderTradeSettlement',
    leaf('ram:PaymentReference', bill.number),
    leaf('ram:InvoiceCurrencyCode', bill.currency),
    paymentMeans(bill),
    bill.vat_groups.map(({ base, amount, ...vat }) => tax(vat, base, amount)),
    node(
      'ram:BillingSpecifiedPeriod',
      day('ram:StartDateTime', bill.period.from),
      day('ram:EndDateTime', bill.period.to),
    ),
    node(
      'ram:SpecifiedTradePaymentTerms',
      leaf('ram:Description', paymentTerms(bill)),
      bill.kind === 'bill' ? day('ram:DueDateDateTime', bill.due_date) : undefined,
    ),
    summation(bill),
    bill.corrects &&
      node(
        'ram:InvoiceReferencedDocument',
        leaf('ram:IssuerAssignedID', bill.corrects.number),
        day('ram:FormattedIssueDateTime', bill.corrects.issue_date, 'qdt'),
      ),
  );

const paymentMeans = (bill: BillDocument) =>
  node(
    'ram:SpecifiedTradeSettlementPaymentMeans',
    leaf('ram:TypeCode', paymentCode(bill)),
    bill.seller.iban === undefined
      ? undefined
      : node(
          'ram:PayeePartyCreditorFinancialAccount',
          leaf('ram:IBANID', bill.seller.iban),
          leaf('ram:AccountName', bill.seller.legal_name),
        ),
    bill.seller.iban === undefined || bill.seller.bic === undefined
      ? undefined
      : node('ram:PayeeSpecifiedCreditorFinancialInstitution', leaf('ram:BICID', bill.seller.bic)),
  );

const tax = (vat: BillVat, base: string, amount: string) =>
  node(
    'ram:ApplicableTradeTax',
    leaf('ram:CalculatedAmount', amount),
    leaf('ram:TypeCode', 'VAT'),
    leafIf('ram:ExemptionReason', vat.reason),
    leaf('ram:BasisAmount', base),
    leaf('ram:CategoryCode', vat.category),
    leafIf('ram:ExemptionReasonCode', reasonCodeOf(vat)),
    leaf('ram:RateApplicablePercent', vat.rate),
  );

const summation = ({ totals, currency }: BillDocument) =>
  node(
    'ram:SpecifiedTradeSettlementHeaderMonetarySummation',
    leaf('ram:LineTotalAmount', totals.net),
    leaf('ram:TaxBasisTotalAmount', totals.net),
    leaf('ram:TaxTotalAmount', totals.vat, { currencyID: currency }),
    leaf('ram:GrandTotalAmount', totals.gross),
    leafIf('ram:TotalPrepaidAmount', totals.prepaid),
    leaf('ram:DuePayableAmount', totals.due),
  );
