import { FILE_REASONS, STATUS_CODES, StatusError } from '../core/error.ts'
import { printable } from '../core/printable.ts'

/** A failure whose message is all the user needs; a command that throws it ends with exit code 1. */
export class CommandError extends Error {
  /** Lines after the message that say what to do instead. */
  readonly hints: readonly string[]
  constructor(message: string, { hints = [], ...options }: ErrorOptions & { readonly hints?: readonly string[] } = {}) {
    super(message, options)
    this.hints = hints
  }
}

const CODE_NAMES: readonly string[] = Object.keys(STATUS_CODES).map((name) =>
  name === 'OK'
    ? 'OK'
    : name === 'CANCELLED'
      ? 'Canceled'
      : name
          .split('_')
          .map((word) => word[0] + word.slice(1).toLowerCase())
          .join(''),
)

/** The name grpc-go prints for a numeric status code, e.g. `AlreadyExists` for 6. */
export function codeName(code: number): string {
  return CODE_NAMES[code] ?? `Code(${code})`
}

/** Go's text of a failed file operation, `open /x: no such file or directory`; other errors come back as they are. */
export function fileError(error: unknown, operation: string, path: string): unknown {
  const code = (error as NodeJS.ErrnoException).code
  const reason = code === undefined ? undefined : FILE_REASONS[code]
  return reason === undefined ? error : new CommandError(`${operation} ${path}: ${reason}`, { cause: error })
}

/** The hints of an error, a line each. */
export function hintsOf(error: unknown): string {
  return error instanceof CommandError ? error.hints.map((hint) => `${hint}\n`).join('') : ''
}

/** The text to show for an error meant for the user, or undefined for a bug, whose stack should be seen. */
export function userMessage(error: unknown): string | undefined {
  // Much of it may be what a server, or somebody in between, said.
  if (error instanceof CommandError || error instanceof StatusError) return printable(error.message)
  return error instanceof Error && 'code' in error ? error.message : undefined
}
