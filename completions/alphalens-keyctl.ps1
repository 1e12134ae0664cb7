# alphalens-keyctl: completion for PowerShell 5.1 and newer.
#
# What is typed, and what the program answers, is text here and never code: nothing is invoked but the program itself,
# and a value is inserted between single quotes, in which PowerShell expands nothing.

Register-ArgumentCompleter -Native -CommandName alphalens-keyctl -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    # The words before the one at the cursor, without their quotes.
    $words = @(
        foreach ($element in $commandAst.CommandElements) {
            if ($element.Extent.EndOffset -ge $cursorPosition) { break }
            if ($element -is [System.Management.Automation.Language.StringConstantExpressionAst]) { $element.Value }
            else { $element.Extent.Text }
        }
    )
    if ($words.Count -eq 0) { return }
    # The word at the cursor may have an open quote before it, and doubles each quote inside.
    $word = [string]$wordToComplete
    if ($word -match "^'") { $word = ($word.Substring(1) -replace "'$", '') -replace "''", "'" }
    elseif ($word -match '^"') { $word = ($word.Substring(1) -replace '"$', '') -replace '""', '"' }

    $program = 'alphalens-keyctl'
    if ($words[0] -match '[/\\]' -and (Test-Path -LiteralPath $words[0] -PathType Leaf)) { $program = $words[0] }
    # Each word ends with a NUL; the newline that PowerShell adds behind the last is not heard.
    $request = (@($words) + $word | ForEach-Object { $_ + [char]0 }) -join ''
    $OutputEncoding = New-Object System.Text.UTF8Encoding $false
    $console = [Console]::OutputEncoding
    try {
        [Console]::OutputEncoding = New-Object System.Text.UTF8Encoding $false
        $answer = @($request | & $program __complete 2>$null)
    } catch { $answer = @() } finally { [Console]::OutputEncoding = $console }

    foreach ($line in $answer) {
        $value, $description = $line -split "`t", 2
        if ($null -eq $description) {
            if ($value -ne ':files') { continue }
            $option = if ($word -match '^--[a-z-]+=') { $Matches[0] } else { '' }
            if ($option -eq '') {
                [System.Management.Automation.CompletionCompleters]::CompleteFilename($word)
            }
            continue
        }
        # Plain words stand as they are. In all others the quotes are doubled, also the typographic ones, which
        # PowerShell takes for a single quote.
        $text = if ($value -match '\A--?[a-z][a-z-]*\z' -or $value -match '\A[A-Za-z_][A-Za-z0-9_]*\z') { $value }
        else { "'" + [System.Management.Automation.Language.CodeGeneration]::EscapeSingleQuotedStringContent($value) + "'" }
        if ([string]::IsNullOrEmpty($description)) { $description = $value }
        New-Object System.Management.Automation.CompletionResult $text, $value, 'ParameterValue', $description
    }
}
