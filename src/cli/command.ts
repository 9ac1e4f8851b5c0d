import { hintsOf, userMessage } from './failure.ts'
import { type FlagTable, type FlagValues, parseFlags, usageText } from './flags.ts'

/** What a command sees of the process it runs in. */
export interface CommandContext {
  /** The words after the subcommand. */
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string | undefined>>
  /** Both write at once and in full; what is written is not buffered anywhere. */
  stdout(text: string): void
  stderr(text: string): void
  /** All of standard input. */
  stdin(): Uint8Array
  /** The clock, milliseconds. */
  now(): number
}

/** A subcommand, as the modules in `server/` and `agent/` export it under the name `command`. */
export interface Command {
  /** The name in `Usage of <name>:`; not always the words of the command line. */
  readonly name: string
  readonly flags: FlagTable
  /** What follows the usage text on `-h`. */
  readonly helpEnd: string
  /** Parses the flags and runs; resolves to the exit code. Failures meant for the user are printed and give 1. */
  run(context: CommandContext): Promise<number>
}

export interface CommandDefinition<T extends FlagTable> {
  readonly name: string
  readonly flags: T
  /** Default `flag: help requested`; some agent commands end with an empty line instead. */
  readonly helpEnd?: string
  /** Before the text of a failure; default nothing. */
  readonly errorPrefix?: string
  /** Says a flag error once more after the usage text, behind these words, as some commands do. */
  readonly repeatFlagError?: string
  /**
   * The work. A returned number is the exit code, nothing means 0.
   * @throws CommandError, StatusError for the user to read; anything else is a bug and leaves with its stack
   */
  // biome-ignore lint/suspicious/noConfusingVoidType: most commands end without a value, and an async function then gives void.
  run(flags: FlagValues<T>, context: CommandContext): Promise<number | undefined | void>
}

/** Makes a command from its flags and its work. */
export function defineCommand<const T extends FlagTable>(definition: CommandDefinition<T>): Command {
  return {
    name: definition.name,
    flags: definition.flags,
    helpEnd: definition.helpEnd ?? 'flag: help requested',
    async run(context) {
      const parsed = parseFlags(definition.flags, context.args)
      if (parsed.kind !== 'values') {
        const message = parsed.kind === 'error' ? `${parsed.message}\n` : ''
        context.stderr(message + usageText(definition.name, definition.flags))
        if (definition.repeatFlagError !== undefined) context.stderr(`${definition.repeatFlagError}${message}`)
        if (parsed.kind === 'error' && parsed.hint !== undefined) context.stderr(`${parsed.hint}\n`)
        return 1
      }
      try {
        return (await definition.run(parsed.values as FlagValues<T>, context)) ?? 0
      } catch (error) {
        const message = userMessage(error)
        if (message === undefined) throw error
        context.stderr(`${definition.errorPrefix ?? ''}${message}\n${hintsOf(error)}`)
        return 1
      }
    },
  }
}
