/** A table of flows between guests: which of them pass, against those that should. */

/** A connection to try. */
export interface Flow {
  readonly from: string;
  readonly to: string;
  /** A TCP port, or echo requests. */
  readonly service: number | 'ping';
  readonly passes: boolean;
}

/** The outcome of a flow. */
export interface FlowOutcome extends Flow {
  readonly passed: boolean;
}

/** Tries the flows of each sender in turn, and those of different senders at once. */
export async function tryFlows(
  flows: readonly Flow[],
  attempt: (flow: Flow) => Promise<boolean>,
): Promise<readonly FlowOutcome[]> {
  const senders = [...Map.groupBy(flows, ({ from }) => from).values()];
  const outcomes = await Promise.all(
    senders.map(async (own) => {
      const tried: FlowOutcome[] = [];
      for (const flow of own) tried.push({ ...flow, passed: await attempt(flow) });
      return tried;
    }),
  );
  return outcomes.flat();
}

/** Returns the table as text, a line for each flow. */
export const flowTable = (outcomes: readonly FlowOutcome[]): string =>
  outcomes
    .map(({ from, to, service, passes, passed }) => {
      const name = service === 'ping' ? 'ping' : `tcp ${service}`;
      const fault = passed === passes ? '' : '   wrong';
      return `${from.padEnd(8)} ${to.padEnd(8)} ${name.padEnd(9)} ${passed ? 'passes' : 'refused'}${fault}`;
    })
    .join('\n');
