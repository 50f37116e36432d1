/** A real SMTP server for tests, which answers as a test tells it. */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { SMTPServer, type SMTPServerOptions } from 'smtp-server';
import type { Test } from 'tap';

/** An e-mail that the server has taken. */
export interface Received {
  readonly from: string;
  readonly to: readonly string[];
  readonly text: string;
  readonly secure: boolean;
  readonly user: string | undefined;
}

export interface TestSmtp {
  readonly port: number;
  readonly mails: readonly Received[];
  /** The number of connections. */
  readonly connections: () => number;
  /** The answers to the next e-mails: an error code for the recipient or the data, `hang`, or undefined to take it. */
  readonly answers: (undefined | 'hang' | { readonly at: 'rcpt' | 'data'; readonly code: number })[];
}

const refusal = (code: number) => Object.assign(new Error(`answer ${code}`), { responseCode: code });

/** Starts the server. Without `options`, it has no TLS and takes all users. */
export async function startSmtp(t: Test, options: SMTPServerOptions = {}): Promise<TestSmtp> {
  const mails: Received[] = [];
  const answers: TestSmtp['answers'] = [];
  let connections = 0;
  const server = new SMTPServer({
    ...{ authOptional: true, disabledCommands: options.key ? [] : ['STARTTLS'], closeTimeout: 100, logger: false },
    onConnect: (_session, done) => {
      connections++;
      done();
    },
    onAuth: ({ username, password }, _session, done) =>
      password === 'right' ? done(null, { user: username }) : done(refusal(535)),
    onRcptTo: (_address, _session, done) => {
      const [answer] = answers;
      if (answer === 'hang') return void answers.shift();
      if (answer?.at !== 'rcpt') return done();
      answers.shift();
      return done(refusal(answer.code));
    },
    onData: (stream, session, done) => {
      const pieces: Buffer[] = [];
      stream.on('data', (piece: Buffer) => pieces.push(piece));
      stream.on('end', () => {
        const answer = answers.shift();
        if (typeof answer === 'object') return done(refusal(answer.code));
        const { mailFrom, rcptTo } = session.envelope;
        mails.push({
          from: mailFrom === false ? '' : mailFrom.address,
          to: rcptTo.map(({ address }) => address),
          text: Buffer.concat(pieces).toString(),
          ...{ secure: session.secure, user: session.user },
        });
        return done();
      });
    },
    ...options,
  });
  server.on('error', () => undefined);
  server.listen(0, '::1');
  await once(server.server, 'listening');
  t.teardown(() => new Promise<void>((resolve) => server.close(resolve)));
  const { port } = server.server.address() as AddressInfo;
  return { port, mails, answers, connections: () => connections };
}
