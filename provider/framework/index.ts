/** The public interface of the framework. */

export * from '../protocol/values.ts';
export * from './attributes.ts';
export {
  type AttributePath,
  type Diagnostic,
  DiagnosticError,
  type Diagnostics,
  UnwatchedError,
} from './diagnostics.ts';
export { parseDuration } from './duration.ts';
export { pathText } from './paths.ts';
export { type Reattached, reattach, serve } from './serve.ts';
export * from './types.ts';
