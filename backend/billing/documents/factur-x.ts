/** The parts that make a PDF a Factur-X and ZUGFeRD document: the attached XML, and metadata that announce it. */
import { escaped } from './xml.ts';

const fileName = 'factur-x.xml';

/** The functions of pdfkit that its types lack. */
interface Hybrid {
  file(
    content: Buffer,
    options: {
      readonly name: string;
      readonly type: string;
      readonly relationship: 'Alternative';
      readonly description: string;
      readonly creationDate: Date;
      readonly modifiedDate: Date;
    },
  ): void;
  appendXML(xml: string): void;
}

const isHybrid = (doc: object): doc is Hybrid =>
  'file' in doc && typeof doc.file === 'function' && 'appendXML' in doc && typeof doc.appendXML === 'function';

const property = (name: string, description: string) => `
              <rdf:li rdf:parseType="Resource">
                <pdfaProperty:name>${name}</pdfaProperty:name>
                <pdfaProperty:valueType>Text</pdfaProperty:valueType>
                <pdfaProperty:category>external</pdfaProperty:category>
                <pdfaProperty:description>${description}</pdfaProperty:description>
              </rdf:li>`;

const metadata = (title: string, author: string) => `
    <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">
      <dc:title><rdf:Alt><rdf:li xml:lang="x-default">${escaped(title)}</rdf:li></rdf:Alt></dc:title>
      <dc:creator><rdf:Seq><rdf:li>${escaped(author)}</rdf:li></rdf:Seq></dc:creator>
    </rdf:Description>
    <rdf:Description rdf:about="" xmlns:fx="urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#">
      <fx:DocumentType>INVOICE</fx:DocumentType>
      <fx:DocumentFileName>${fileName}</fx:DocumentFileName>
      <fx:Version>1.0</fx:Version>
      <fx:ConformanceLevel>EN 16931</fx:ConformanceLevel>
    </rdf:Description>
    <rdf:Description rdf:about="" xmlns:pdfaExtension="http://www.aiim.org/pdfa/ns/extension/"
      xmlns:pdfaSchema="http://www.aiim.org/pdfa/ns/schema#" xmlns:pdfaProperty="http://www.aiim.org/pdfa/ns/property#">
      <pdfaExtension:schemas>
        <rdf:Bag>
          <rdf:li rdf:parseType="Resource">
            <pdfaSchema:schema>Factur-X PDFA Extension Schema</pdfaSchema:schema>
            <pdfaSchema:namespaceURI>urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#</pdfaSchema:namespaceURI>
            <pdfaSchema:prefix>fx</pdfaSchema:prefix>
            <pdfaSchema:property>
              <rdf:Seq>${[
                property('DocumentFileName', 'The name of the embedded XML document'),
                property('DocumentType', 'The type of the hybrid document in capital letters'),
                property('Version', 'The actual version of the standard applying to the embedded XML document'),
                property('ConformanceLevel', 'The conformance level of the embedded XML document'),
              ].join('')}
              </rdf:Seq>
            </pdfaSchema:property>
          </rdf:li>
        </rdf:Bag>
      </pdfaExtension:schemas>
    </rdf:Description>`;

/** Attaches the XML, and announces it. */
export function facturX(doc: object, xml: string, title: string, author: string, date: Date): void {
  if (!isHybrid(doc)) throw new Error('this version of pdfkit cannot attach files');
  doc.file(Buffer.from(xml, 'utf8'), {
    name: fileName,
    type: 'text/xml',
    relationship: 'Alternative',
    description: `${title} as EN 16931 XML`,
    creationDate: date,
    modifiedDate: date,
  });
  doc.appendXML(metadata(title, author));
}
