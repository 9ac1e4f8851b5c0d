import { expect, test } from 'vitest'
import { type CommandContext, defineCommand } from './command.ts'
import { type Program, runProgram } from './commands.ts'
import { CommandError } from './failure.ts'
import { text } from './flags.ts'

const show = defineCommand({
  name: 'entry show',
  flags: { id: text('an ID'), far: { ...text('somewhere else'), explainedBy: 'turret-test help far' } },
  errorPrefix: 'Error: ',
  async run({ id }, { stdout }) {
    if (id === 'bad') throw new CommandError('no such entry')
    if (id === 'old') throw new CommandError('no such word', { hints: ['it is "new" now'] })
    if (id === 'bug') throw new TypeError('a bug')
    stdout(`shown ${id}\n`)
    return id === 'three' ? 3 : undefined
  },
})
const watch = defineCommand({ name: 'watch', flags: {}, helpEnd: '', repeatFlagError: '', run: async () => 0 })

const program: Program = {
  name: 'turret-test',
  version: '1.2.3',
  commands: {
    'entry show': { synopsis: 'Shows entries', load: async () => ({ command: show }) },
    'api fetch': { synopsis: 'Fetches', load: async () => ({ command: watch }) },
    'api fetch jwt': { synopsis: 'Fetches a JWT', load: async () => ({ command: watch }) },
    healthcheck: {
      synopsis: 'Asks for health',
      load: () => Promise.reject(new Error('loaded without need')),
    },
  },
}

const MAIN = `Usage: turret-test [--version] [--help] <command> [<args>]

Available commands are:
    api            
    entry          
    healthcheck    Asks for health

`
const ENTRY_USAGE = 'Usage of entry show:\n  -id string\n    \tan ID\nMore flags: turret-test help far\n'
const ENTRY_GROUP = `${ENTRY_USAGE}This command is accessed by using one of the subcommands below.

Subcommands:
    show    Shows entries
`
const FETCH_HELP = `Usage of watch:\nUsage of watch:\n\n\nSubcommands:\n    jwt    Fetches a JWT\n`
const MISPLACED = `Invalid flags before the subcommand. If these flags are for
the subcommand, please put them after the subcommand.

`

async function run(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const seen = { out: '', err: '' }
  const context: CommandContext = {
    args,
    env: {},
    stdout: (text) => {
      seen.out += text
    },
    stderr: (text) => {
      seen.err += text
    },
    stdin: () => new Uint8Array(0),
    now: () => 0,
  }
  return { code: await runProgram(program, context), ...seen }
}

test.each([
  ['no command', [], 127, '', MAIN],
  ['an unknown command', ['foo'], 127, '', MAIN],
  ['an unknown command with -h', ['foo', '-h'], 127, '', MAIN],
  ['a command that only begins like one', ['entryx'], 127, '', MAIN],
  ['a word with a blank', ['entry show'], 127, '', MAIN],
  ['a flag whose value is taken for the command', ['-config', 'x', 'entry', 'show'], 127, '', MAIN],
  ['help', ['--help'], 0, '', MAIN],
  ['the version', ['-v'], 0, '', '1.2.3\n'],
  ['the version before a command', ['--version', 'entry', 'show'], 0, '', '1.2.3\n'],
  ['a group', ['entry'], 1, '', ENTRY_GROUP],
  ['a group with an unknown command', ['entry', 'foo'], 1, '', ENTRY_GROUP],
  ['a group with a word that begins like a command', ['entry', 'showx'], 1, '', ENTRY_GROUP],
  ['help of a group', ['entry', '-h'], 0, '', ENTRY_GROUP],
  ['help of a command', ['entry', 'show', '-h'], 0, '', `${ENTRY_USAGE}flag: help requested\n`],
  ['help after other words', ['entry', 'show', 'x', '-id', '-h'], 0, '', `${ENTRY_USAGE}flag: help requested\n`],
  ['help of a command with commands below', ['api', 'fetch', '-h'], 0, '', FETCH_HELP],
  ['a flag before a command', ['-x', 'entry', 'show'], 1, '', `${MISPLACED}${ENTRY_USAGE}flag: help requested\n`],
  ['a command', ['entry', 'show', '-id', 'e1', 'more'], 0, 'shown e1\n', ''],
  ['a command after the end of flags', ['entry', 'show', '--', '-h'], 0, 'shown \n', ''],
  ['an exit code', ['entry', 'show', '-id=three'], 3, 'shown three\n', ''],
  ['a failure', ['entry', 'show', '-id', 'bad'], 1, '', 'Error: no such entry\n'],
  ['a failure with a hint', ['entry', 'show', '-id', 'old'], 1, '', 'Error: no such word\nit is "new" now\n'],
  [
    'a flag of older versions',
    ['entry', 'show', '-ttl', '5'],
    1,
    '',
    `flag provided but not defined: -ttl\n${ENTRY_USAGE}-ttl is -x509SVIDTTL and -jwtSVIDTTL now\n`,
  ],
  ['a flag that is explained elsewhere', ['entry', 'show', '-far', 'x', '-id', 'e1'], 0, 'shown e1\n', ''],
  ['an unknown flag', ['entry', 'show', '-x'], 1, '', `flag provided but not defined: -x\n${ENTRY_USAGE}`],
  [
    'an unknown flag said twice',
    ['api', 'fetch', '-x'],
    1,
    '',
    'flag provided but not defined: -x\nUsage of watch:\nflag provided but not defined: -x\n',
  ],
])('%s', async (_title, args, code, out, err) => {
  expect(await run(...args)).toEqual({ code, out, err })
})

test('a bug leaves with its stack and not as a message for the user', async () => {
  await expect(run('entry', 'show', '-id', 'bug')).rejects.toThrow(TypeError)
})
