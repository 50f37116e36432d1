/**
 * Host selectors: a VM is placed only on hosts whose labels match its selector.
 *
 * The selector is a rule of placement and of moves. Labels that an operator changes later move no VM. Host labels belong to
 * operators, so other users may name only the labels that operators have published.
 */
import type { VmRecord } from '../records/index.ts';
import { matches, normalSelector, parseSelector, type Selector } from '../text/selectors.ts';

/** The host selector of one VM. */
export interface HostSelector {
  /** The selector as its user wrote it. */
  readonly text: string;
  /** The same for all selectors with equal requirements. */
  readonly normal: string;
  /** Undefined if this version cannot parse the text. No host matches then. */
  readonly requirements: Selector | undefined;
}

/** Returns the host selector of a VM record; undefined if the VM has none. */
export function hostSelectorOf({ host_selector: text }: Pick<VmRecord, 'host_selector'>): HostSelector | undefined {
  if (text === undefined) return undefined;
  const parsed = parseSelector(text);
  return { text, normal: normalSelector(text) ?? text, requirements: typeof parsed === 'string' ? undefined : parsed };
}

/** Tells whether a host with these labels may take a VM with this selector. */
export const satisfiesHostSelector = (
  labels: Readonly<Record<string, string>>,
  { requirements }: HostSelector,
): boolean => requirements !== undefined && matches(requirements, labels);

/** Returns the labels of the selector that the operator has not published, each once. */
export const unpublishedLabels = ({ requirements = [] }: HostSelector, published: readonly string[]): string[] => [
  ...new Set(requirements.map(({ key }) => key).filter((key) => !published.includes(key))),
];
