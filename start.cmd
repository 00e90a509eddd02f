@echo off
rem A double-click installs on first use, then opens a page in the browser. Pictures and folders dropped onto it are enlarged.
rem It only looks for a Python that starts; scripts\start.py does the rest.
setlocal EnableExtensions DisableDelayedExpansion
set "HERE=%~dp0"
set "EXE="
set "FLAG="
rem The newer py launcher would otherwise install a missing Python without asking.
set "PYTHON_MANAGER_AUTOMATIC_INSTALL=0"
for %%V in (3.12 3.11 3.10 3.9 3.8) do if not defined EXE call :fit py.exe -%%V
if not defined EXE call :fit python.exe
if not defined EXE call :fit py.exe -3
rem One that is too old, or has 32 bit, is good enough to fetch another.
if not defined EXE call :any python.exe
if not defined EXE call :any py.exe -3
if not defined EXE goto without_python

:found
rem A double-click, or a drop, starts "cmd /c start.cmd NAMES", where a name with an & or a ^ is cut or changed in the
rem arguments. The line itself has the names as they are; start.py reads them from there.
setlocal EnableDelayedExpansion
set "REALESRGAN_START_LINE=!CMDCMDLINE!"
if defined REALESRGAN_START_LINE if not "!REALESRGAN_START_LINE:/c=!"=="!REALESRGAN_START_LINE!" goto window
endlocal
"%EXE%" %FLAG% "%HERE%scripts\start.py" %*
exit /b %ERRORLEVEL%

:window
"!EXE!" !FLAG! "!HERE!scripts\start.py"
set "STATUS=!ERRORLEVEL!"
pause
rem Not exit /b: cmd would go on with what follows the & of a dropped name.
exit !STATUS!

:fit
"%~1" %2 -c "import struct, sys; sys.exit(sys.version_info < (3, 8) or struct.calcsize('P') != 8)" <nul >nul 2>nul && set "EXE=%~1"
if defined EXE set "FLAG=%2"
goto :eof

:any
"%~1" %2 -c "import sys; sys.exit(sys.version_info < (3, 6))" <nul >nul 2>nul && set "EXE=%~1"
if defined EXE set "FLAG=%2"
goto :eof

:without_python
uv.exe --version <nul >nul 2>nul && goto with_uv
chcp 65001 >nul
type "%HERE%scripts\without_python.txt"
pause
exit /b 1

:with_uv
echo No Python was found, but uv is here. It can fetch Python 3.12 for you alone (about 25 MB, no administrator needed).
set "ANSWER="
set /p "ANSWER=Type y and press Enter to fetch it: "
if /i not "%ANSWER%"=="y" exit /b 1
uv.exe python install 3.12
if errorlevel 1 pause
if errorlevel 1 exit /b 1
set "EXE=uv.exe"
set "FLAG=run --no-project --python 3.12"
goto found
