import { readFileSync, writeSync } from 'node:fs'
import type { CommandContext } from './command.ts'
import { type Program, runProgram } from './commands.ts'
import { userMessage } from './failure.ts'
import { useProxies } from './proxy.ts'

const STDIN = 0
const STDOUT = 1
const STDERR = 2
const SIGPIPE_EXIT = 141

/**
 * Runs a program in this process and ends it with the program's exit code. Output goes straight to the descriptors:
 * `process.stdout` costs milliseconds to make and may still hold text when the process exits.
 */
export async function runInProcess(program: Program): Promise<never> {
  const context: CommandContext = {
    args: process.argv.slice(2),
    env: process.env,
    stdout: (text) => write(STDOUT, text),
    stderr: (text) => write(STDERR, text),
    stdin: () => readFileSync(STDIN),
    now: Date.now,
  }
  try {
    await useProxies(process.env)
  } catch (error) {
    context.stderr(`${userMessage(error)}\n`)
    process.exit(1)
  }
  process.exit(await runProgram(program, context))
}

function write(descriptor: number, text: string): void {
  const bytes = Buffer.from(text)
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(descriptor, bytes, at)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      // The reader has gone: a Go program dies of the signal here.
      if (code === 'EPIPE') process.exit(SIGPIPE_EXIT)
      // A pipe that another process made non-blocking is full.
      if (code !== 'EAGAIN') throw error
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2)
    }
  }
}
