import type { Command, CommandContext } from './command.ts'
import { usageText } from './flags.ts'

/** A subcommand in the table of a program: loaded only when it runs or its usage is printed. */
export interface CommandRow {
  /** One line for the list of commands. */
  readonly synopsis: string
  load(): Promise<{ readonly command: Command }>
}

/** All subcommands by their words, `entry create`; the words before the last are groups. */
export type CommandRows = Readonly<Record<string, CommandRow>>

export interface Program {
  /** As in `Usage: <name> [--version] ...`. */
  readonly name: string
  readonly version: string
  readonly commands: CommandRows
}

const GROUP_HELP = 'This command is accessed by using one of the subcommands below.'
const HELP_WORDS = ['-h', '-help', '--help']
const VERSION_WORDS = ['-v', '-version', '--version']

/**
 * Finds the subcommand in the arguments and runs it.
 *
 * @returns the exit code: 127 for no or an unknown command, 1 for a group without subcommand
 */
export async function runProgram(program: Program, context: CommandContext): Promise<number> {
  const { words, args, help, version, flagsBefore } = readArguments(program, context.args)
  if (version) {
    context.stderr(`${program.version}\n`)
    return 0
  }
  if (words === '' || !nodes(program).has(words)) {
    context.stderr(mainUsage(program))
    return help && words === '' ? 0 : 127
  }
  if (help || flagsBefore) {
    if (!help) {
      context.stderr(
        'Invalid flags before the subcommand. If these flags are for\n' +
          'the subcommand, please put them after the subcommand.\n\n',
      )
    }
    await printHelp(program, words, context)
    return help ? 0 : 1
  }
  const row = rowOf(program, words)
  if (row === undefined) {
    await printHelp(program, words, context)
    return 1
  }
  const { command } = await row.load()
  return command.run({ ...context, args })
}

interface Arguments {
  readonly words: string
  readonly args: readonly string[]
  readonly help: boolean
  readonly version: boolean
  readonly flagsBefore: boolean
}

/** Splits the arguments by the rules of the library SPIRE uses; `-h` counts wherever it stands before a `--`. */
function readArguments(program: Program, all: readonly string[]): Arguments {
  let words = ''
  let args: readonly string[] = []
  let help = false
  let version = false
  let flagsBefore = false
  for (const [i, arg] of all.entries()) {
    if (arg === '--') break
    if (HELP_WORDS.includes(arg)) {
      help = true
      continue
    }
    if (words !== '' || arg === '') continue
    if (VERSION_WORDS.includes(arg)) version = true
    else if (arg[0] === '-') flagsBefore = true
    else if (arg.includes(' ')) break
    else {
      const found = longestCommand(program, all.slice(i))
      words = found ?? arg
      args = all.slice(i + (found === undefined ? 1 : found.split(' ').length))
    }
  }
  return { words, args, help, version, flagsBefore }
}

/** The longest command or group that the words begin with, if it ends where a word ends. */
function longestCommand(program: Program, words: readonly string[]): string | undefined {
  const end = words.findIndex((word) => word === '' || word[0] === '-' || word.includes(' '))
  const line = words.slice(0, end < 0 ? words.length : end).join(' ')
  let longest = ''
  for (const name of nodes(program)) if (name.length > longest.length && line.startsWith(name)) longest = name
  if (longest === '') return undefined
  return line.includes(`${longest} `) || line.endsWith(longest) ? longest : undefined
}

/** Every command and every group of commands. */
function nodes(program: Program): Set<string> {
  const all = new Set<string>()
  for (const name of Object.keys(program.commands)) {
    for (let end = name.length; end > 0; end = name.lastIndexOf(' ', end - 1)) all.add(name.slice(0, end))
  }
  return all
}

function rowOf(program: Program, words: string): CommandRow | undefined {
  return Object.hasOwn(program.commands, words) ? program.commands[words] : undefined
}

/** The commands and groups directly below one (or at the top for the empty string), by their last word. */
function children(program: Program, words: string): { name: string; words: string; synopsis: string }[] {
  const prefix = words === '' ? '' : `${words} `
  return [...nodes(program)]
    .filter((node) => node.startsWith(prefix) && !node.slice(prefix.length).includes(' '))
    .sort()
    .map((node) => ({
      name: node.slice(prefix.length),
      words: node,
      synopsis: rowOf(program, node)?.synopsis ?? '',
    }))
}

function mainUsage(program: Program): string {
  return `Usage: ${program.name} [--version] [--help] <command> [<args>]\n\nAvailable commands are:\n${columns(children(program, ''))}\n\n`
}

function columns(rows: readonly { name: string; synopsis: string }[]): string {
  const width = Math.max(...rows.map((row) => row.name.length))
  return rows.map((row) => `    ${row.name.padEnd(width)}    ${row.synopsis}`).join('\n')
}

/** Prints the usage of a command and of those below it, then how to go on. */
async function printHelp(program: Program, words: string, context: CommandContext): Promise<void> {
  const own = await usageOf(program, words, context)
  const below = children(program, words)
  for (const child of below) await usageOf(program, child.words, context)
  context.stderr(`${own}${below.length === 0 ? '' : `\n\nSubcommands:\n${columns(below)}`}\n`)
}

/** Prints the usage text if there is a command behind the words; returns the line that follows it. */
async function usageOf(program: Program, words: string, context: CommandContext): Promise<string> {
  const row = rowOf(program, words)
  if (row === undefined) return GROUP_HELP
  const { command } = await row.load()
  context.stderr(usageText(command.name, command.flags))
  return command.helpEnd
}
